package relaytest_test

import (
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/hostile"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// stage is a relay each of whose ends meets a broker that may be hostile. When its test ends it looks at all that the ends
// have said: whatever the broker did, they kept to their subjects, sealed nothing twice under one nonce, and ran nothing twice.
type stage struct {
	*relaytest.Net
	t        *testing.T
	log      *relaytest.Log
	app      *hostile.Door // of all publishers
	ran      *ledger
	inspect  *inspector
	subjects relay.Subjects
}

func newStage(t *testing.T) *stage {
	t.Helper()
	n, log := start(t)
	return stageOn(t, n, log)
}

func stageOn(t *testing.T, n *relaytest.Net, log *relaytest.Log) *stage {
	t.Helper()
	subjects, err := relay.NewSubjects("")
	relaytest.Must(t, err)
	s := &stage{Net: n, t: t, log: log, ran: &ledger{t: t, times: map[string]int{}}, subjects: subjects}
	s.app = s.door()
	s.inspect = newInspector(t, n)
	return s
}

// door is a door that keeps what passes, and judges its end when the test is over.
func (s *stage) door() *hostile.Door {
	d := s.Door().Record()
	s.t.Cleanup(func() { keepsToItsSubjects(s.t, d); sealsOnce(s.t, d) })
	return d
}

// end is one worker behind a door of its own.
type end struct {
	*worker.Worker
	door *hostile.Door
	stop func()
}

// worker starts a worker whose handler is counted.
func (s *stage) worker(h http.Handler, change func(*worker.Config)) end {
	s.t.Helper()
	d := s.door()
	w, stop := s.Worker(s.ran.handler(h), func(c *worker.Config) {
		c.NATS.URL = d.URL
		if change != nil {
			change(c)
		}
	})
	return end{w, d, stop}
}

// publisher starts a publisher.
func (s *stage) publisher(change func(*publisher.Config)) *publisher.Transport {
	s.t.Helper()
	return s.Publisher(func(c *publisher.Config) {
		c.NATS.URL = s.app.URL
		if change != nil {
			change(c)
		}
	})
}

// refused makes an attack and waits until the workers have dropped so many messages more.
func (s *stage) refused(n int, attack func(), workers ...end) {
	s.t.Helper()
	var names []string
	before := uint64(0)
	for _, w := range workers {
		names = append(names, w.Instance())
		before += s.inspect.stats(w.Instance()).Dropped
	}
	attack()
	waitDropped(s.t, s.inspect, before+uint64(n), names...)
}

// deliver hands a message to the worker that its subject names, as only the broker can: past the permissions of all users.
func (s *stage) deliver(m *nats.Msg, workers ...end) {
	s.t.Helper()
	for _, w := range workers {
		if strings.Contains(m.Subject, w.Instance()) {
			w.door.Send(hostile.Said(hostile.Down, m))
		}
	}
}

// capture has a publisher send a request that the broker keeps to itself, and returns its first message.
func (s *stage) capture(client *publisher.Transport, r *http.Request) *hostile.Message {
	s.t.Helper()
	trap := new(hostile.Trap)
	s.app.Script(hostile.When(ofRequests, trap.Move))
	defer s.app.Script(hostile.Pass)
	ctx, leave := context.WithCancel(r.Context())
	got := make(chan reply, 1)
	go func() { got <- do(client, r.WithContext(ctx)) }()
	first := trap.Wait(s.t, 1)
	leave()
	relaytest.Recv(s.t, got, "the caller's own end")
	trap.Wait(s.t, 2) // the news that the caller left
	return first
}

// The parts of the relay's traffic.
func ofRequests(m *hostile.Message) bool { return ofFirst(m) || ofControl(m) }
func ofFirst(m *hostile.Message) bool    { return strings.HasPrefix(m.Subject, "obo.v1.req.") }
func ofControl(m *hostile.Message) bool  { return strings.HasPrefix(m.Subject, "obo.v1.ctl.") }
func ofReplies(m *hostile.Message) bool  { return strings.HasPrefix(m.Subject, "obo.v1.rep.") }
func ofAnnouncements(m *hostile.Message) bool {
	return strings.HasPrefix(m.Subject, "obo.v1.announce.")
}

// instance is the worker process that a message is for.
func (s *stage) instance(m *hostile.Message) string { return s.subjects.Parse(m.Subject).Instance }

// ledger counts what the handlers ran, by path: tests give each request a path of its own.
type ledger struct {
	t     *testing.T
	mu    sync.Mutex
	times map[string]int
}

func (l *ledger) handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.times[r.URL.Path]++
		n := l.times[r.URL.Path]
		l.mu.Unlock()
		if n > 1 && !relay.SafeMethod(r.Method) {
			l.t.Errorf("%s %s ran %d times", r.Method, r.URL.Path, n)
		}
		h.ServeHTTP(w, r)
	})
}

func (l *ledger) of(path string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.times[path]
}

func (l *ledger) all() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, times := range l.times {
		n += times
	}
	return n
}

// sealed finds the sealed frame in a message of the relay.
func sealed(m *hostile.Message) (frame []byte, salt string, ok bool) {
	switch b := m.Data; {
	case ofFirst(m):
		_, _, frame, _ = relay.SplitRequest(b)
	case ofControl(m), ofReplies(m) && len(b) > 0 && b[0] == 1:
		frame = b
	case ofReplies(m) && len(b) > 17 && b[0] == 2:
		salt, frame = string(b[1:17]), b[17:]
	}
	return frame, salt, len(frame) >= 26 // its clear header and its tag
}

func frameType(frame []byte) relay.FrameType { return relay.FrameType(frame[1]) }
func frameSeq(frame []byte) uint64           { return binary.BigEndian.Uint64(frame[2:]) }

// sealsOnce: an end seals nothing twice under one key and nonce, and draws one salt for a request, whatever it was sent.
// Otherwise AES-GCM would reveal the plaintexts.
func sealsOnce(t *testing.T, d *hostile.Door) {
	type nonce struct {
		request string
		seq     uint64
	}
	frames, salts := map[nonce]string{}, map[string]string{}
	for _, m := range d.Passed(hostile.Up) {
		frame, salt, ok := sealed(m)
		if !ok {
			continue
		}
		request := m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
		if ofFirst(m) {
			request = m.Reply[strings.LastIndexByte(m.Reply, '.')+1:]
		}
		if other := salts[request]; salt != "" && other != "" && other != salt {
			t.Errorf("request %s was answered under two keys", request)
		}
		if salt != "" {
			salts[request] = salt
		}
		n := nonce{request, frameSeq(frame)}
		if other, used := frames[n]; used && other != string(frame) {
			t.Errorf("two different frames under one nonce: request %s, seq %x", request, n.seq)
		}
		frames[n] = string(frame)
	}
}

// keepsToItsSubjects: an end publishes on the subjects of the protocol alone, whatever reply subjects it was given.
func keepsToItsSubjects(t *testing.T, d *hostile.Door) {
	subjects, _ := relay.NewSubjects("")
	for _, m := range d.Passed(hostile.Up) {
		a := subjects.Parse(m.Subject)
		ok := false
		switch a.Kind {
		case relay.KindAnnounce, relay.KindDiscover:
			ok = a.Service == relaytest.Service || a.Service == "billing"
		case relay.KindRequest, relay.KindControl:
			ok = a.App == relaytest.App
		case relay.KindReply:
			ok = a.App == relaytest.App || a.App == "batch"
		default:
			ok = strings.HasPrefix(m.Subject, "_INBOX.inspector.")
		}
		if !ok {
			t.Errorf("an end published on %s", m.Subject)
		}
	}
}

// down is a message as if the server had sent it.
func down(subject string, data []byte) *hostile.Message {
	return hostile.Said(hostile.Down, natsMsg(subject, data))
}

// namesItself answers with the path, so that nobody can take one answer for another.
func namesItself(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, "answer to "+r.URL.Path)
}
