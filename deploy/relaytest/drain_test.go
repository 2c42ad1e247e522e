package relaytest_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// load sends requests of different people from several callers until stopped, and counts.
func load(t *testing.T, client *publisher.Transport, callers int) (stop func() int64) {
	t.Helper()
	var sent atomic.Int64
	var wg sync.WaitGroup
	end := make(chan struct{})
	for caller := range callers {
		token := relaytest.Token(fmt.Sprint("person", caller), tomorrow())
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				r := newRequest(t, "POST", "/", strings.NewReader("body"))
				r.Header.Set("X-Forwarded-Access-Token", token)
				if got := do(client, r); got.err != nil || got.body != "body" {
					t.Errorf("%s", got)
					return
				}
				sent.Add(1)
			}
		})
	}
	return func() int64 { close(end); wg.Wait(); return sent.Load() }
}

func echo(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }

// Workers are replaced one after the other under load, each by a successor that is there first: no request is lost, not
// even a POST.
func TestDrainUnderLoad(t *testing.T) {
	n, log := start(t)
	settings := func(c *worker.Config) { c.DrainQuiet = time.Second }
	_, stop := n.Worker(http.HandlerFunc(echo), settings)
	client := n.Publisher(nil)
	waitForWorkers(t, n, 1)
	ended := load(t, client, 8)
	for i := range 3 {
		_, next := n.Worker(http.HandlerFunc(echo), settings)
		log.WaitTimes(t, i+2, "worker started")
		stop()
		log.WaitTimes(t, i+1, "drained")
		stop = next
	}
	if sent := ended(); sent == 0 {
		t.Error("nothing was sent")
	}
}

// A request that is under way when its worker is told to stop is finished.
func TestDrainWaitsForWhatIsUnderWay(t *testing.T) {
	n, log := start(t)
	b := newBlocker()
	_, stop := n.Worker(b.handler("done"), nil)
	client := n.Publisher(nil)
	got := background(t, client, "POST", "/")
	relaytest.Recv(t, b.running, "the handler")
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	log.Wait(t, "draining")
	close(b.resume)
	relaytest.Recv(t, got, "the reply").want(t, 200, "done")
	relaytest.Recv(t, stopped, "the worker's end")
}

// What has not ended when the time is over is broken off, and its caller told so at once.
func TestDrainTimeIsOver(t *testing.T) {
	n, _ := start(t)
	running := make(chan struct{}, 2)
	_, stop := n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/streams" {
			_, _ = io.WriteString(w, "first")
			w.(http.Flusher).Flush()
		}
		running <- struct{}{}
		<-r.Context().Done()
	}), func(c *worker.Config) { c.DrainTimeout = 300 * time.Millisecond })
	client := n.Publisher(nil)
	waits, streams := background(t, client, "POST", "/waits"), background(t, client, "POST", "/streams")
	relaytest.Recv(t, running, "the first handler")
	relaytest.Recv(t, running, "the second handler")
	stop()
	relaytest.Recv(t, waits, "the reply").wantCode(t, relay.CodeHandlerFailed, "the worker stopped while the request was under way")
	if got := relaytest.Recv(t, streams, "the stream's end"); got.err == nil || got.body != "first" {
		t.Errorf("%s", got)
	}
}

// A worker that serves as many as it may lets as many wait, refuses the next, says when to try again, and a second worker
// gets that one.
func TestOverload(t *testing.T) {
	n, _ := start(t)
	b := newBlocker()
	w, _ := n.Worker(b.handler("done"), func(c *worker.Config) { c.MaxInFlight = 1 })
	client := n.Publisher(nil)
	first := background(t, client, "POST", "/")
	relaytest.Recv(t, b.running, "the handler")
	inspect := newInspector(t, n)
	waits := background(t, client, "POST", "/")
	waitUntil(t, "the second request waits", func() bool { return w.Stats().Waiting == 1 })
	got := send(t, client, "POST", "/")
	got.wantCode(t, relay.CodeOverloaded, "start more workers")
	var e *relay.Error
	if errors.As(got.err, &e); e.After != time.Second || e.Problem().Status != 503 {
		t.Errorf("%+v", e)
	}
	server := sidecar(t, client)
	r := newRequest(t, "POST", "/", nil)
	r.URL.Host, r.Host = server.Listener.Addr().String(), ""
	refused := do(sidecarClient(t).Transport, r)
	if p := problemOf(t, refused); refused.StatusCode != 503 || refused.Header.Get("Retry-After") != "1" || p.Code != relay.CodeOverloaded || p.RetryAfterMS != 1000 {
		t.Errorf("%s %v", refused, refused.Header)
	}
	n.Worker(says("second"), nil)
	waitForWorkers(t, n, 2)
	for range 5 {
		send(t, client, "POST", "/").want(t, 200, "second")
	}
	close(b.resume)
	relaytest.Recv(t, first, "the reply").want(t, 200, "done")
	relaytest.Recv(t, waits, "the reply").want(t, 200, "done")
	if s := inspect.stats(w.Instance()); s.Outcomes["overloaded"] < 2 || s.Outcomes["done"] < 1 {
		t.Errorf("%+v", s)
	}
}

// A burst far over the limit: every request is either served or refused as overloaded, nothing hangs.
func TestBurst(t *testing.T) {
	n, _ := start(t)
	handler := &counter{handler: says("hello")}
	n.Worker(handler, func(c *worker.Config) { c.MaxInFlight = 8 })
	client := n.Publisher(nil)
	waitForWorkers(t, n, 1)
	var served atomic.Int64
	each(200, func(int) {
		got := send(t, client, "POST", "/")
		switch {
		case got.err == nil && got.body == "hello":
			served.Add(1)
		case !errors.Is(got.err, relay.CodeOverloaded) && !errors.Is(got.err, relay.CodeRefusedUnverified):
			t.Errorf("%s", got)
		}
	})
	handler.want(t, served.Load())
}

// A NATS server that is connected and silent does not keep a worker that is to leave: a platform kills soon.
func TestDrainWithASilentServer(t *testing.T) {
	n, _ := start(t)
	door, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(t, err)
	defer door.Close()
	var silent atomic.Bool
	go func() {
		for {
			c, err := door.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", strings.TrimPrefix(n.URL, "nats://"))
			if err != nil {
				_ = c.Close()
				return
			}
			go func() { defer s.Close(); _, _ = io.Copy(s, c) }()
			go func() {
				defer c.Close()
				for b := make([]byte, 1024); ; {
					got, err := s.Read(b)
					if err != nil {
						return
					}
					if !silent.Load() {
						_, _ = c.Write(b[:got])
					}
				}
			}()
		}
	}()
	_, stop := n.Worker(http.HandlerFunc(echo), func(c *worker.Config) { c.NATS.URL = "nats://" + door.Addr().String() })
	waitForWorkers(t, n, 1)
	silent.Store(true)
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > 2900*time.Millisecond { // it was three seconds at least, or five
		t.Errorf("left after %v", took)
	}
}
