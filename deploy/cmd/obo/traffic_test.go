package main

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// capture is what tail sees of one request, message by message.
type capture struct {
	t         *testing.T
	traffic   *traffic
	subjects  relay.Subjects
	now       time.Time
	id, inbox relay.ID
	lines     []string
}

const tailInstance = "abcdefghij234567"

func newCapture(t *testing.T) *capture {
	t.Helper()
	subjects, err := relay.NewSubjects("dev")
	if err != nil {
		t.Fatal(err)
	}
	c := &capture{t: t, subjects: subjects, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), id: relay.NewID(), inbox: relay.NewID()}
	c.traffic = newTraffic(subjects, func(line string) { c.lines = append(c.lines, line) })
	return c
}

// frame is a sealed frame of the given size to whoever has no key.
func frame(kind relay.FrameType, seq uint64, size int) []byte {
	b := append([]byte{relay.Version, byte(kind)}, binary.BigEndian.AppendUint64(nil, seq)...)
	return append(b, make([]byte, size-len(b))...)
}

func hints(pairs ...string) nats.Header {
	h := nats.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h[pairs[i]] = []string{pairs[i+1]}
	}
	return h
}

func (c *capture) replySubject() string { return c.subjects.Reply("ui", c.inbox, c.id) }
func (c *capture) control() string {
	return c.subjects.Control("middleware", tailInstance, "ui", c.id)
}

func (c *capture) request(h nats.Header, kind relay.FrameType) {
	data := append([]byte{0, 8}, make([]byte, 8)...)
	c.message(&nats.Msg{Subject: c.subjects.Request("middleware", tailInstance, "ui"), Reply: c.replySubject(), Header: h, Data: append(data, frame(kind, 0, 90)...)})
}

func (c *capture) ctl(f []byte) {
	c.message(&nats.Msg{Subject: c.control(), Reply: c.replySubject(), Data: f})
}

func (c *capture) reply(h nats.Header, f []byte) {
	c.message(&nats.Msg{Subject: c.replySubject(), Reply: c.control(), Header: h, Data: f})
}

func (c *capture) message(m *nats.Msg) {
	c.now = c.now.Add(10 * time.Millisecond)
	c.traffic.message(m, c.now)
}

func salted(f []byte) []byte { return append(append([]byte{2}, make([]byte, 16)...), f...) }

// want compares the lines so far, ID standing for the request's id.
func (c *capture) want(lines ...string) {
	c.t.Helper()
	got := strings.ReplaceAll(strings.Join(c.lines, "\n"), c.id.String(), "ID")
	if got != strings.Join(lines, "\n") {
		c.t.Errorf("got\n%s\nwant\n%s", got, strings.Join(lines, "\n"))
	}
	c.lines = nil
}

func TestTrafficHints(t *testing.T) {
	t.Parallel()
	full := hints(relay.HintID, "x", relay.HintMethod, "GET", relay.HintPath, "/groups")
	for name, c := range map[string]struct {
		request, reply nats.Header
		want           string
	}{
		"full":    {full, hints(relay.HintStatus, "200"), "GET /groups 200"},
		"minimal": {hints(relay.HintID, "x"), hints(relay.HintStatus, "503"), "- - 503"},
		"none":    {nil, nil, "- - -"},
		"hostile": {
			hints(relay.HintMethod, "G\x1b[2JT", relay.HintPath, "/a\n03:04:05 ui -> b"), hints(relay.HintStatus, "2000"),
			`"G\x1b[2JT" "/a\n03:04:05 ui -> b" -`,
		},
		"too long": {hints(relay.HintMethod, strings.Repeat("X", 33), relay.HintPath, "/"+strings.Repeat("x", 512)), hints(relay.HintStatus, "\x1b"), `- - "\x1b"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newCapture(t)
			x.request(c.request, relay.FrameWhole)
			x.reply(c.reply, salted(frame(relay.FrameWhole, 0, 183)))
			x.want("03:04:05.020 ui -> middleware/" + tailInstance + " " + c.want + " 10ms 100B up 200B down ID")
		})
	}
}

// A grant by reference is its hash, which is longer than its length says.
func TestTrafficByReference(t *testing.T) {
	t.Parallel()
	c := newCapture(t)
	data := append(make([]byte, 2+32), frame(relay.FrameWhole, 0, 66)...)
	c.message(&nats.Msg{Subject: c.subjects.Request("middleware", tailInstance, "ui"), Reply: c.replySubject(), Data: data})
	c.reply(hints(relay.HintStatus, "200"), frame(relay.FrameWhole, 0, 100))
	c.want("03:04:05.020 ui -> middleware/" + tailInstance + " - - 200 10ms 100B up 100B down ID")
}

// Repeated frames count once, credits do not end anything, and what comes after the end is no news.
func TestTrafficStream(t *testing.T) {
	t.Parallel()
	c := newCapture(t)
	request := hints(relay.HintMethod, "POST", relay.HintPath, "/up")
	c.request(request, relay.FrameHead)
	c.request(request, relay.FrameHead)
	c.reply(nil, salted(frame(relay.FrameCredit, 1<<63, 83)))
	c.ctl(frame(relay.FrameData, 1, 30_000))
	c.ctl(frame(relay.FrameData, 1, 30_000))
	c.ctl(frame(relay.FrameEnd, 2, 100))
	c.reply(nil, salted(frame(relay.FrameInform, 0, 83)))
	c.reply(hints(relay.HintStatus, "201"), frame(relay.FrameHead, 1, 100))
	c.reply(nil, frame(relay.FrameData, 2, 1000))
	c.ctl(frame(relay.FrameCredit, 1<<63, 50))
	c.want()
	end := frame(relay.FrameEnd, 3, 100)
	c.reply(hints(relay.HintStatus, "201"), end)
	c.want("03:04:05.110 ui -> middleware/" + tailInstance + " POST /up 201 100ms 30kB up 1400B down ID")
	c.reply(nil, end)
	c.request(request, relay.FrameHead)
	c.ctl(frame(relay.FrameCancel, 1<<63+1, 50))
	c.traffic.sweep(c.now.Add(silent))
	c.want()
	c.traffic.sweep(c.now.Add(remembered))
	if len(c.traffic.requests) != 0 {
		t.Errorf("%d requests are remembered", len(c.traffic.requests))
	}
}

// A request that nobody ends is shown once it has been silent, with what is known.
func TestTrafficWithoutAnEnd(t *testing.T) {
	t.Parallel()
	known := "ui -> middleware/" + tailInstance
	canceled := newCapture(t)
	canceled.request(nil, relay.FrameWhole)
	canceled.ctl(frame(relay.FrameCancel, 1<<63, 50))
	canceled.want("03:04:05.020 " + known + " - - canceled 10ms 100B up 0B down ID")

	lost := newCapture(t)
	lost.request(nil, relay.FrameWhole)
	lost.traffic.sweep(lost.now.Add(silent - 1))
	lost.want()
	lost.traffic.sweep(lost.now.Add(silent))
	lost.traffic.sweep(lost.now.Add(silent + 1))
	lost.want("03:04:05.010 " + known + " - - unfinished 0s 100B up 0B down ID")

	// An unsealed refusal decides nothing: a reply may follow.
	refused := newCapture(t)
	refused.request(nil, relay.FrameWhole)
	refused.reply(nil, relay.UnsealedRefusal(relay.CodeClockSkew))
	refused.want()
	refused.traffic.sweep(refused.now.Add(silent))
	refused.want("03:04:05.020 " + known + " - - unsealed:clock_skew 10ms 100B up 0B down ID")
	answered := newCapture(t)
	answered.request(nil, relay.FrameWhole)
	answered.reply(nil, relay.UnsealedRefusal(relay.CodeClockSkew))
	answered.reply(hints(relay.HintStatus, "200"), salted(frame(relay.FrameWhole, 0, 83)))
	answered.want("03:04:05.030 " + known + " - - 200 20ms 100B up 100B down ID")

	// Its beginning was before tail's.
	late := newCapture(t)
	late.reply(hints(relay.HintStatus, "200"), frame(relay.FrameEnd, 9, 100))
	late.want("03:04:05.010 " + known + " - - 200 - 0B up 100B down ID")
}

// Whatever is no message of the protocol is left out, and never ends in a panic.
func TestTrafficIgnoresTheRest(t *testing.T) {
	t.Parallel()
	c := newCapture(t)
	request := c.subjects.Request("middleware", tailInstance, "ui")
	for _, m := range []*nats.Msg{
		{Subject: "obo.v1.req.middleware." + tailInstance + ".ui", Reply: c.replySubject()}, // without the prefix
		{Subject: request, Reply: "_INBOX.x"},
		{Subject: request, Reply: c.subjects.Reply("batch", c.inbox, c.id)},
		{Subject: c.subjects.Announce("middleware"), Data: []byte("x.y.z")},
		{Subject: c.subjects.Discover("middleware")},
		{Subject: "dev.obo.v1.rep.ui.x.y"},
	} {
		c.message(m)
	}
	if len(c.traffic.requests) != 0 {
		t.Errorf("%d requests", len(c.traffic.requests))
	}
	for _, data := range [][]byte{nil, {0}, {2}, {255, 255}, {0, 9, 1}, frame(relay.FrameWhole, 0, 10)[:9], salted(nil), salted([]byte{1, 2})} {
		c.message(&nats.Msg{Subject: request, Reply: c.replySubject(), Data: data})
		c.ctl(data)
		c.reply(nil, data)
	}
	c.want()
}

func TestTrafficIsBounded(t *testing.T) {
	t.Parallel()
	c := newCapture(t)
	for range mostRequests + 10 {
		c.id = relay.NewID()
		c.request(nil, relay.FrameWhole)
	}
	if n := len(c.traffic.requests); n != mostRequests {
		t.Errorf("%d requests are remembered", n)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0B", 9999: "9999B", 10_000: "10kB", 9_999_999: "9999kB", 10_000_000: "10MB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{"a/b-1.conf": "a/b-1.conf", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$x": "'$x'", "~": "'~'"} {
		if got := quote(s); got != want {
			t.Errorf("%q: %s", s, got)
		}
	}
	if got := fmt.Sprint(elsewhere(sandboxURL), elsewhere("http://127.0.0.1:1")); got != " --workspace http://127.0.0.1:1" {
		t.Error(got)
	}
}
