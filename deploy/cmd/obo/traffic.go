package main

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

const (
	// silent is after how long without a message a request has ended without saying so: the peers give up after 6 s.
	silent = 10 * time.Second
	// remembered is how long late and repeated messages of a finished request are known as such.
	remembered = time.Minute
	// mostRequests bounds the memory; what comes while there are more is not shown.
	mostRequests = 100_000
)

// traffic puts together what can be seen of each request in clear: subjects, hints, the frames' types and sizes
// (PROTOCOL.md sections 4, 7 and 11). Nothing of it is proved: a server that lies shows lies here.
type traffic struct {
	subjects relay.Subjects
	emit     func(line string)
	requests map[string]*seen
}

// seen is one request.
type seen struct {
	start                  time.Time // zero if the beginning was not seen
	last                   time.Time
	id                     string
	app, service, instance string
	method, path, status   string
	up, down               direction
	finished               bool
}

// direction counts the frames of one way.
type direction struct {
	next  uint64 // seq of the next ordered frame; lower ones are repeated
	bytes int64
}

func newTraffic(subjects relay.Subjects, emit func(string)) *traffic {
	return &traffic{subjects, emit, map[string]*seen{}}
}

func (t *traffic) message(m *nats.Msg, now time.Time) {
	addr := t.subjects.Parse(m.Subject)
	switch addr.Kind {
	case relay.KindRequest:
		reply := t.subjects.Parse(m.Reply)
		if reply.Kind == relay.KindReply && reply.App == addr.App {
			t.request(m, addr, reply.ID, now)
		}
	case relay.KindControl:
		if s := t.find(addr.App, addr.ID, now); s != nil {
			s.place(addr)
			if frameType(m.Data) == relay.FrameCancel {
				s.status = "canceled"
				t.finish(s, now)
			}
			s.up.add(m.Data, len(m.Data))
		}
	case relay.KindReply:
		t.reply(m, addr, now)
	}
}

func (t *traffic) request(m *nats.Msg, addr relay.Address, id relay.ID, now time.Time) {
	s := t.find(addr.App, id, now)
	if s == nil || s.finished {
		return
	}
	if s.start.IsZero() {
		s.start = now
	}
	s.place(addr)
	s.method = hint(m.Header, relay.HintMethod, 32)
	s.path = hint(m.Header, relay.HintPath, 512)
	s.up.add(requestFrame(m.Data), len(m.Data))
}

func (t *traffic) reply(m *nats.Msg, addr relay.Address, now time.Time) {
	s := t.find(addr.App, addr.ID, now)
	if s == nil || s.finished {
		return
	}
	if to := t.subjects.Parse(m.Reply); to.Kind == relay.KindControl && to.App == addr.App && to.ID == addr.ID {
		s.place(to)
	}
	if code, ok := relay.ParseUnsealedRefusal(m.Data); ok {
		s.status = "unsealed:" + string(code) // decides nothing; what comes after it does
		return
	}
	if status := hint(m.Header, relay.HintStatus, 3); status != unknown {
		s.status = status
	}
	frame := replyFrame(m.Data)
	s.down.add(frame, len(m.Data))
	if kind := frameType(frame); kind == relay.FrameWhole || kind == relay.FrameEnd {
		t.finish(s, now)
	}
}

// find returns the request of that id, nil if there are too many to remember another.
func (t *traffic) find(app string, id relay.ID, now time.Time) *seen {
	key := app + " " + id.String()
	s := t.requests[key]
	if s == nil {
		if len(t.requests) >= mostRequests {
			return nil
		}
		s = &seen{id: id.String(), app: app, service: unknown, instance: unknown, method: unknown, path: unknown, status: unknown}
		t.requests[key] = s
	}
	s.last = now
	return s
}

func (s *seen) place(a relay.Address) { s.service, s.instance = a.Service, a.Instance }

func (t *traffic) finish(s *seen, now time.Time) {
	if s.finished {
		return
	}
	s.finished = true
	t.emit(s.line(now))
}

// sweep ends what fell silent, and forgets what ended long ago.
func (t *traffic) sweep(now time.Time) {
	for key, s := range t.requests {
		quiet := now.Sub(s.last)
		if !s.finished && quiet >= silent {
			if s.status == unknown || !strings.HasPrefix(s.status, "unsealed:") {
				s.status = "unfinished"
			}
			s.finished = true
			t.emit(s.line(s.last))
		}
		if s.finished && quiet >= remembered {
			delete(t.requests, key)
		}
	}
}

// line is the request's one line.
func (s *seen) line(end time.Time) string {
	took := unknown
	if !s.start.IsZero() {
		took = end.Sub(s.start).Round(100 * time.Microsecond).String()
	}
	return fmt.Sprintf("%s %s -> %s/%s %s %s %s %s %s up %s down %s", end.Format("15:04:05.000"), s.app, s.service, s.instance,
		s.method, s.path, s.status, took, size(s.up.bytes), size(s.down.bytes), s.id)
}

func size(n int64) string {
	switch {
	case n < 10_000:
		return strconv.FormatInt(n, 10) + "B"
	case n < 10_000_000:
		return strconv.FormatInt(n/1000, 10) + "kB"
	}
	return strconv.FormatInt(n/1_000_000, 10) + "MB"
}

// unknown stands for what was not seen.
const unknown = "-"

// hint is a clear header as it can be shown: it comes from anybody, so nothing in it may steer a terminal.
func hint(h nats.Header, name string, most int) string {
	value := h.Get(name)
	if value == "" || len(value) > most {
		return unknown
	}
	for i := range len(value) {
		if value[i] <= ' ' || value[i] > '~' {
			return strconv.QuoteToASCII(value)
		}
	}
	return value
}

const (
	frameHeader = 10
	saltSize    = 16
	grantHash   = 32
)

// requestFrame is the frame of a req payload: behind the grant and its length, or 0 and the grant's hash.
func requestFrame(data []byte) []byte {
	if len(data) < 2 {
		return nil
	}
	grant := cmp.Or(int(binary.BigEndian.Uint16(data)), grantHash)
	if len(data) < 2+grant {
		return nil
	}
	return data[2+grant:]
}

// replyFrame is the frame of a rep payload: behind the salt, if there is one.
func replyFrame(data []byte) []byte {
	if len(data) > saltSize && data[0] == 2 {
		return data[1+saltSize:]
	}
	return data
}

// frameType is 0 for what is no frame.
func frameType(frame []byte) relay.FrameType {
	if len(frame) < frameHeader || frame[0] != relay.Version {
		return 0
	}
	return relay.FrameType(frame[1])
}

// add counts a message, once however often it is sent.
func (d *direction) add(frame []byte, size int) {
	if frameType(frame) == 0 {
		return
	}
	seq := binary.BigEndian.Uint64(frame[2:])
	if seq>>63 == 0 {
		if seq < d.next {
			return
		}
		d.next = seq + 1
	}
	d.bytes += int64(size)
}
