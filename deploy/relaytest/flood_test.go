package relaytest_test

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// floodStage is a relay with an app beside the others that floods.
type floodStage struct {
	n       *relaytest.Net
	flood   *relaytest.Flood
	log     *relaytest.Log
	client  *publisher.Transport // of the app that is not to suffer
	to      *relay.Announcement
	inspect *inspector
	slow    chan struct{} // closed: lets go of the requests for /slow
}

func newFloodStage(t *testing.T, change func(*worker.Config)) *floodStage {
	t.Helper()
	s := &floodStage{log: new(relaytest.Log), slow: make(chan struct{})}
	s.n, s.flood = relaytest.NewWithFlood(t, s.log)
	s.n.Worker(http.HandlerFunc(s.serve), change)
	s.client, s.inspect = s.n.Publisher(nil), newInspector(t, s.n)
	s.to = s.flood.Worker()
	return s
}

func (s *floodStage) serve(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/slow":
		select {
		case <-s.slow:
		case <-r.Context().Done():
		}
	case "/endless":
		block := make([]byte, 64<<10)
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	default:
		_, _ = io.WriteString(w, "hello")
	}
}

// person is a request of one of the app's other people.
func person(t *testing.T, name, path string) *http.Request {
	r := newRequest(t, "POST", path, nil)
	r.Header.Set("X-Forwarded-Access-Token", relaytest.Token(name, tomorrow()))
	return r
}

// serves checks that people of the other app are served, known ones and new ones.
func (s *floodStage) serves(t *testing.T, when string) {
	t.Helper()
	for _, name := range []string{"alice", "new-" + relay.NewID().String()} {
		if got := do(s.client, person(t, name, "/")); got.err != nil || got.StatusCode != 200 {
			t.Errorf("%s %s got %s", when, name, got)
		}
	}
}

// While an app floods with messages of each kind, another app's people are served, and nothing grows without bound. It runs
// alone: the heap is that of all tests.
func TestFloodsOfOneAppLeaveTheOthersServed(t *testing.T) {
	s := newFloodStage(t, func(c *worker.Config) { c.GrantRate = 100 })
	const many = 2000 / raceSlows // a second: more than the worker could read at all would keep everybody out
	moves := map[string]func() *nats.Msg{
		"garbage":       s.flood.Garbage(s.to, 2000),
		"large garbage": s.flood.Garbage(s.to, 60<<10),
		"forged grants": s.flood.Grants(s.to, true),
		"new grants":    s.flood.Grants(s.to, false),
		"requests":      s.flood.Requests(s.to, "/"),
		"frames":        s.flood.Frames(s.to, 4000),
		"discover":      s.flood.Discover,
		"announcements": s.flood.Announcements(),
	}
	repeated := s.flood.Requests(s.to, "/")()
	moves["repeated requests"] = func() *nats.Msg { return relaytest.Copy(repeated) }
	s.serves(t, "before")
	before := heap()
	for name, next := range moves {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan int)
		go func() { done <- s.flood.Run(ctx, many, next) }()
		for start, n := time.Now(), 0; n < 10 || time.Since(start) < 200*time.Millisecond; n++ {
			s.serves(t, name)
		}
		cancel()
		if sent := <-done; sent < 10 {
			t.Errorf("%s: only %d were sent", name, sent)
		}
		s.serves(t, "after "+name)
	}
	// What NATS still holds of the flood, 64 MB a connection at most, is gone when it has been read.
	waitUntil(t, "the heap grew by less than 64 MB", func() bool { return heap()-before < 64<<20 })
	if lines := strings.Count(s.log.String(), "app="+relaytest.FloodApp+" code=refused"); lines > 50*60 {
		t.Errorf("%d lines of log about the flood", lines)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// New grants cost a worker public-key work, so an app that sends many of them is refused for a while: what it sends then
// is not opened, the other app's new grants are, and the very bytes are good again when the rate allows.
func TestFloodOfGrantsIsRefused(t *testing.T) {
	t.Parallel()
	s := newFloodStage(t, func(c *worker.Config) { c.GrantRate = 5 })
	next := s.flood.Grants(s.to, false)
	for range 100 {
		relaytest.Must(t, s.flood.Conn.PublishMsg(next()))
	}
	s.log.Wait(t, "refused", "app="+relaytest.FloodApp, "faster than this worker opens them")
	s.serves(t, "during the flood")
	late := s.flood.Publisher()
	do(late, person(t, "mallory", "/")).want(t, 200, "hello") // its publisher sends the same bytes again until they are taken
}

// Streams that nobody reads hold slots for as long as their app keeps them alive. Others keep a quarter of the slots, and
// what waits to be read is bounded by the windows.
func TestStreamsNeverReadLeaveSlots(t *testing.T) {
	const slots = 16
	s := newFloodStage(t, func(c *worker.Config) { c.MaxInFlight = slots })
	hoarder := s.flood.Publisher()
	before := heap()
	ctx, leave := context.WithCancel(t.Context())
	var open atomic.Int64
	var wait sync.WaitGroup
	for i := range 3 * slots {
		r := person(t, "mallory-"+string(rune('a'+i%4)), "/endless").WithContext(ctx)
		wait.Go(func() {
			if resp, err := hoarder.RoundTrip(r); err == nil {
				open.Add(1)
				<-ctx.Done()
				_ = resp.Body.Close()
			}
		})
	}
	waitUntil(t, "the flood has all that it can have", func() bool { return open.Load() == slots*3/4 })
	for range 5 {
		s.serves(t, "beside streams that nobody reads")
	}
	if got := open.Load(); got != slots*3/4 {
		t.Errorf("%d streams are open", got)
	}
	if grown := heap() - before; grown > 3*slots*(4<<20) {
		t.Errorf("the heap grew by %d KB", grown>>10)
	}
	leave()
	wait.Wait()
	s.inspect.wait(s.to.Instance, "the slots are free", func(st stats) bool { return st.InFlight == 0 })
}

func waitUntil(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %v until %s", relaytest.Patience, what)
		}
	}
}

// One person's flood leaves room for the app's other people at the publisher and at the worker.
func TestOnePersonsFloodLeavesTheOthersServed(t *testing.T) {
	t.Parallel()
	s := newFloodStage(t, func(c *worker.Config) { c.MaxInFlight = 8 })
	flooded := s.n.Publisher(func(c *publisher.Config) { c.MaxInFlight = 40 })
	var busy, overloaded atomic.Int64
	var wait sync.WaitGroup
	for range 100 {
		r := person(t, "mallory", "/slow")
		wait.Go(func() {
			switch got := do(flooded, r); {
			case got.err == nil:
			case relay.AsError(got.err).Code == relay.CodePublisherBusy:
				busy.Add(1)
			case relay.AsError(got.err).Code == relay.CodeOverloaded:
				overloaded.Add(1)
			default:
				t.Error(got.err)
			}
		})
	}
	// Of the flood four are served and eight wait; the publisher or the worker refuses the others.
	waitUntil(t, "the flood has what it can have", func() bool { return busy.Load()+overloaded.Load() == 100-4-8 })
	for _, name := range []string{"alice", "bob", "carol"} {
		do(flooded, person(t, name, "/")).want(t, 200, "hello")
	}
	close(s.slow)
	wait.Wait()
	do(flooded, person(t, "mallory", "/")).want(t, 200, "hello")
}
