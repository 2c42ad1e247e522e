package relaytest_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/obo-relay/obo-relay/deploy/hostile"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// wantUnknown: the caller is told that the request may have been executed. Any other end would invite a repetition.
func (r reply) wantUnknown(t *testing.T) {
	t.Helper()
	var e *relay.Error
	if !errors.As(r.err, &e) || e.Problem().Outcome != relay.Unknown {
		t.Errorf("got %s, want an unknown outcome", r)
	}
}

// aheadClock is a clock that can be set ahead, as if time had passed.
type aheadClock struct{ ahead atomic.Int64 }

func (c *aheadClock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *aheadClock) pass(d time.Duration)    { c.ahead.Add(int64(d)) }
func (c *aheadClock) config(w *worker.Config) { w.Now = c.now }

// replyLife is longer than a worker keeps a finished reply. As long as it does, it takes the request for one that it knows;
// after that only the burned ids tell.
const replyLife = 12 * time.Second

// forgetReplies lets time pass for a worker, and another request, at whose end it looks what it need not keep.
func (s *stage) forgetReplies(w end, now func() time.Time, pass func(time.Duration)) {
	s.t.Helper()
	pass(replyLife)
	app := s.RawApp()
	said := app.Worker(w.Instance())
	grant, compact := app.Grant(said, relaytest.Token("filler", tomorrow()))
	for range 2 {
		path := "/filler-" + relay.NewInstance()
		app.Tap.Send(app.Request(said, grant, compact, relay.NewID(), func(h *relay.RequestHead) { h.Path, h.IssuedAt = path, now().UnixMilli() }))
		s.log.Wait(s.t, "msg=request ", "path="+path)
	}
}

// The broker withholds the reply and plays the request again: at once, when its id is no longer under way, at the window's
// end, after it, and after its id was forgotten. It is executed once.
func TestResendAfterAWithheldReply(t *testing.T) {
	s := newStage(t)
	clock := new(aheadClock)
	w := s.worker(http.HandlerFunc(namesItself), clock.config)
	w.door.Script(hostile.When(ofReplies, hostile.Drop))
	client := s.publisher(nil)
	ctx, leave := context.WithCancel(t.Context())
	got := make(chan reply, 1)
	r := newRequest(t, "POST", "/once", nil).WithContext(ctx)
	go func() { got <- do(client, r) }()
	withheld := w.door.Wait("the reply", 1, func(m *hostile.Message) bool { return ofReplies(m) && m.Header.Get("Obo-Status") == "200" })
	leave()
	relaytest.Recv(t, got, "the caller's own end").wantUnknown(t)
	captured := s.app.Wait("the request", 1, ofFirst)
	app := s.RawApp()
	said := app.Worker(w.Instance())
	grant, compact := app.Grant(said, alice())
	fillers := 0
	for _, after := range []time.Duration{0, 5 * time.Second, 12 * time.Second, 29 * time.Second, 31 * time.Second, 59 * time.Second, 61 * time.Second, 62 * time.Second, 91 * time.Second, 4 * time.Minute} {
		clock.ahead.Store(int64(after))
		// Another request makes the worker forget what it need not keep: old replies, old ids.
		fillers++
		app.Tap.Send(app.Request(said, grant, compact, relay.NewID(), func(h *relay.RequestHead) {
			h.Path, h.IssuedAt = "/filler"+after.String(), clock.now().UnixMilli()
		}))
		s.inspect.wait(w.Instance(), "the other request has run", func(s stats) bool { return s.requests > fillers })
		s.refused(2, func() { s.app.Send(captured, captured) }, w)
		if n := s.ran.of("/once"); n != 1 {
			t.Fatalf("after %v: executed %d times", after, n)
		}
	}
	if _, _, ok := sealed(withheld); !ok {
		t.Error("the reply was not sealed")
	}
}

// A refusal that the worker has sealed is the only proof that a request was not started, so the request must not be started
// later either: not when it is played again to provoke a second refusal, and not when the cause of the refusal is gone.
func TestResendAfterASealedRefusal(t *testing.T) {
	s := newStage(t)
	b := newBlocker()
	clock := new(aheadClock)
	w := s.worker(b.handler("done"), func(c *worker.Config) { c.MaxInFlight, c.Now = 1, clock.now })
	client := s.publisher(nil)
	token := alice()
	post := func(path string) <-chan reply {
		r := newRequest(t, "POST", path, nil)
		r.Header.Set("X-Forwarded-Access-Token", token)
		out := make(chan reply, 1)
		go func() { out <- do(client, r) }()
		return out
	}
	served := post("/served")
	relaytest.Recv(t, b.running, "the handler")
	waits := post("/waits")
	waitUntil(t, "the second request waits", func() bool { return w.Stats().Waiting == 1 })
	relaytest.Recv(t, post("/refused"), "the refusal").wantCode(t, relay.CodeOverloaded)
	captured := s.app.Wait("the request", 3, ofFirst)
	s.refused(20, func() {
		for range 20 {
			s.app.Send(captured)
		}
	}, w)
	close(b.resume)
	relaytest.Recv(t, served, "the reply").want(t, 200, "done")
	relaytest.Recv(t, waits, "the reply").want(t, 200, "done")
	s.forgetReplies(w, clock.now, clock.pass)
	s.refused(20, func() {
		for range 20 {
			s.app.Send(captured)
		}
	}, w)
	if n := s.ran.of("/refused"); n != 0 {
		t.Errorf("a request that was refused as not started was executed %d times later", n)
	}
	relaytest.Recv(t, post("/again"), "the caller's own repetition").want(t, 200, "done")
}

// forgeries are what the broker says in the worker's place. None of it is a proof.
func forgeries(subject, reply string) map[string]func(*hostile.Door) {
	say := func(messages ...*hostile.Message) func(*hostile.Door) {
		return func(d *hostile.Door) { d.Send(messages...) }
	}
	return map[string]func(*hostile.Door){
		"503":           say(hostile.NoResponders(reply)),
		"refused":       say(down(reply, relay.UnsealedRefusal(relay.CodeRefused))),
		"clock_skew":    say(down(reply, relay.UnsealedRefusal(relay.CodeClockSkew))),
		"replay_full":   say(down(reply, relay.UnsealedRefusal(relay.CodeReplayFull))),
		"grant_unknown": say(down(reply, relay.UnsealedRefusal(relay.CodeGrantUnknown))),
		"overloaded":    say(down(reply, relay.UnsealedRefusal(relay.CodeOverloaded))),
		"draining":      say(down(reply, relay.UnsealedRefusal(relay.CodeWorkerDraining))),
		"denied":        func(d *hostile.Door) { d.Say(`-ERR 'Permissions Violation for Publish to "` + subject + `"'`) },
		"everything": func(d *hostile.Door) {
			d.Send(hostile.NoResponders(reply), down(reply, relay.UnsealedRefusal(relay.CodeOverloaded)))
			d.Say(`-ERR 'Permissions Violation for Publish to "` + subject + `"'`)
		},
	}
}

// The broker holds a POST back and says in many ways that it was not delivered, or refused. The caller is told that the
// outcome is unknown, no other worker is asked, and when the original comes after all it is executed once.
func TestOriginalHeldBackUntilAfterARefusal(t *testing.T) {
	for name := range forgeries("", "") {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			first, second := s.worker(http.HandlerFunc(namesItself), nil), s.worker(http.HandlerFunc(namesItself), nil)
			client := s.publisher(nil)
			waitForWorkers(t, s.Net, 2)
			trap := new(hostile.Trap)
			s.app.Script(hostile.When(ofRequests, trap.Move))
			got := background(t, client, "POST", "/once")
			original := trap.Wait(t, 1)
			forgeries(original.Subject, original.Reply)[name](s.app)
			relaytest.Recv(t, got, "the reply").wantUnknown(t)
			s.app.Script(hostile.Pass)
			s.app.Send(original, original)
			victim := first
			if s.instance(original) == second.Instance() {
				victim = second
			}
			s.inspect.wait(victim.Instance(), "both are handled", func(s stats) bool { return s.requests == 1 && s.Dropped >= 1 }) // more, if the publisher's own resend got through
			for _, m := range s.app.Passed(hostile.Up) {
				if ofFirst(m) && m.Reply != original.Reply {
					t.Errorf("it was tried again, at %s", m.Subject)
				}
			}
		})
	}
}

// The broker delivers a POST, withholds every reply, and says in many ways that it was not delivered, or refused.
func TestForgedRefusalOfADeliveredPOST(t *testing.T) {
	names := []string{"nothing"}
	for name := range forgeries("", "") {
		names = append(names, name)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			workers := []end{s.worker(http.HandlerFunc(namesItself), nil), s.worker(http.HandlerFunc(namesItself), nil)}
			for _, w := range workers {
				w.door.Script(hostile.When(ofReplies, hostile.Drop))
			}
			client := s.publisher(nil)
			waitForWorkers(t, s.Net, 2)
			got := background(t, client, "POST", "/once")
			request := s.app.Wait("the request", 1, ofFirst)
			s.log.Wait(t, "msg=request", "path=/once")
			if name != "nothing" {
				forgeries(request.Subject, request.Reply)[name](s.app)
			}
			relaytest.Recv(t, got, "the reply").wantUnknown(t)
			if n := s.ran.all(); n != 1 {
				t.Errorf("executed %d times", n)
			}
		})
	}
}

// The broker lets an altered copy go first, so that the worker itself refuses, and then the original: it is executed, once.
func TestAlteredCopyFirst(t *testing.T) {
	s := newStage(t)
	w := s.worker(http.HandlerFunc(namesItself), nil)
	client := s.publisher(nil)
	send(t, client, "GET", "/warm").want(t, 200, "answer to /warm")
	first := true
	s.app.Script(hostile.When(ofFirst, func(m *hostile.Message) []*hostile.Message {
		if first {
			first = false
			return []*hostile.Message{m.Altered(func(c *hostile.Message) { c.Data[len(c.Data)-1] ^= 1 })}
		}
		return []*hostile.Message{m, m} // what the publisher sends again
	}))
	send(t, client, "POST", "/once").want(t, 200, "answer to /once")
	refusals := 0
	for _, m := range w.door.Passed(hostile.Up) {
		if _, unsealed := relay.ParseUnsealedRefusal(m.Data); unsealed && ofReplies(m) {
			refusals++
		}
	}
	if refusals == 0 {
		t.Error("nothing was refused: the copy was not the first")
	}
}

// wallClock is a clock of both ends whose wall time can be stepped while its monotonic time goes on.
type wallClock struct {
	mu      sync.Mutex
	stepped time.Duration // whole seconds
	passed  time.Duration // on both
}

func (c *wallClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Package time has no way to do that, so this relies on the layout of a time with a monotonic reading: 33 bits of
	// seconds above 30 bits of nanoseconds.
	t := time.Now().Add(c.passed)
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall = uint64(int64(*wall) + int64(c.stepped/time.Second)<<30)
	return t
}

func (c *wallClock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stepped += d
}

func (c *wallClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed += d
}

// The clock is set ahead, so that the worker forgets the ids of now, and back again: a captured request is inside its window
// once more, and is not executed once more.
func TestClockSteppedBack(t *testing.T) {
	s := newStage(t)
	clock := new(wallClock)
	w := s.worker(http.HandlerFunc(namesItself), func(c *worker.Config) { c.Now = clock.now })
	client := s.publisher(func(c *publisher.Config) { c.Now = clock.now })
	send(t, client, "POST", "/once").want(t, 200, "answer to /once")
	captured := s.app.Wait("the request", 1, ofFirst)
	for i, d := range []time.Duration{2 * time.Minute, -2 * time.Minute} {
		clock.step(d)
		// Refused until both ends know of the step.
		for n := 0; ; n++ {
			if got := send(t, client, "GET", "/after"); got.err == nil {
				break
			} else if !errors.Is(got.err, relay.CodeRefusedUnverified) && !errors.Is(got.err, relay.CodeNoWorker) || n > 20 {
				t.Fatalf("step %d: %s", i, got)
			}
		}
	}
	s.forgetReplies(w, clock.now, clock.pass)
	s.refused(3, func() { s.app.Send(captured, captured, captured) }, w)
	if n := s.ran.of("/once"); n != 1 {
		t.Errorf("executed %d times", n)
	}
	s.log.Wait(t, "the wall clock was stepped")
}

// What was captured before it was delivered, in every other spelling that lenient readers take for the same, and after it
// was delivered; to another instance; to the worker's successor; after others have filled the cache.
func TestReplaysInOtherSpellings(t *testing.T) {
	n, log := withBatch(t)
	s := stageOn(t, n, log)
	clock := new(aheadClock)
	w := s.worker(http.HandlerFunc(namesItself), func(c *worker.Config) { c.ReplayCapacity, c.Now = 6, clock.now })
	client := s.publisher(nil)
	send(t, client, "POST", "/first").want(t, 200, "answer to /first")
	other := s.worker(http.HandlerFunc(namesItself), nil) // of which the publisher shall not know when it captures
	captured := s.app.Wait("the request", 1, ofFirst)
	app := s.RawApp()
	elsewhere := app.Worker(other.Instance())
	attacks := alterations(app, captured.Msg, elsewhere)
	attacks["as it is"] = captured.Msg
	compact, hash, frame, err := relay.SplitRequest(captured.Data)
	relaytest.Must(t, err)
	if compact == nil {
		t.Fatal("the first request refers to a grant")
	}
	byReference := relaytest.Copy(captured.Msg)
	byReference.Data = append(append([]byte{0, 0}, hash[:]...), frame...)
	attacks["by reference"] = byReference
	s.forgetReplies(w, clock.now, clock.pass)
	for name, m := range attacks { // one by one: a message whose id is being looked at is dropped unread
		s.refused(1, func() { s.deliver(m, w, other) }, w, other)
		if n := s.ran.of("/first"); n != 1 {
			t.Fatalf("%s: executed %d times", name, n)
		}
	}
	// The cache is filled as far as one app may: it refuses the next rather than forget the first.
	grant, filler := app.Grant(app.Worker(w.Instance()), alice())
	for range 2 {
		app.Tap.Send(app.Request(app.Worker(w.Instance()), grant, filler, relay.NewID(), func(h *relay.RequestHead) { h.Path = "/" + relay.NewInstance() }))
	}
	s.log.WaitTimes(t, 5, "msg=request ")
	ran := s.ran.all()
	s.refused(2, func() {
		app.Tap.Send(app.Request(app.Worker(w.Instance()), grant, filler, relay.NewID(), nil))
		s.app.Send(captured)
	}, w)
	if s.ran.all() != ran {
		t.Error("a full cache let a request pass")
	}
	w.stop()
	successor := s.worker(http.HandlerFunc(namesItself), nil)
	app.Worker(successor.Instance())
	moved := captured.Altered(func(m *hostile.Message) {
		m.Subject = app.Subjects.Request(relaytest.Service, successor.Instance(), relaytest.App)
	})
	s.refused(2, func() { s.app.Send(captured, moved, moved) }, successor)
	if n := s.ran.of("/first"); n != 1 {
		t.Errorf("executed %d times", n)
	}
}

// respelled are other spellings of the grant in a request.
func respelled(data []byte) map[string][]byte {
	n := int(data[0])<<8 | int(data[1])
	compact, frame := string(data[2:2+n]), data[2+n:]
	parts := strings.Split(compact, ".")
	with := func(grant string) []byte {
		out := append([]byte{byte(len(grant) >> 8), byte(len(grant))}, grant...)
		return append(out, frame...)
	}
	out := map[string][]byte{
		"JSON serialisation":       with(`{"protected":"` + parts[0] + `","iv":"` + parts[2] + `","ciphertext":"` + parts[3] + `","tag":"` + parts[4] + `"}`),
		"general serialisation":    with(`{"protected":"` + parts[0] + `","recipients":[{}],"iv":"` + parts[2] + `","ciphertext":"` + parts[3] + `","tag":"` + parts[4] + `"}`),
		"encrypted key not empty":  with(parts[0] + ".AAAA." + parts[2] + "." + parts[3] + "." + parts[4]),
		"line break in the middle": with(parts[0] + ".." + parts[2] + "." + parts[3] + "\n." + parts[4]),
		"sixth part":               with(compact + ".AAAA"),
		"space in front":           with(" " + compact),
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i, p := range parts {
		if len(p)%4 == 0 { // no spare bits
			continue
		}
		last := strings.IndexByte(alphabet, p[len(p)-1])
		changed := append([]string(nil), parts...)
		changed[i] = p[:len(p)-1] + string(alphabet[last^1])
		out["spare bit of part "+string(rune('1'+i))] = with(strings.Join(changed, "."))
	}
	return out
}
