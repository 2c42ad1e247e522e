package chaos

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/worker"
)

// The connections of publisher and worker to NATS are cut every second or so, at whatever byte they are, while bodies stream
// in both directions.
func TestCutConnectionsLoseNoByte(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/", bodies())
	mux.HandleFunc("/events", events(20*time.Millisecond))
	s := newStage(t, mux, stageConfig{noWorker: true})
	before, after := s.Door(), s.Door()
	s.Worker(s.forward(t), func(c *worker.Config) { c.NATS.URL = after.URL })
	s.open(t, func(c *publisher.Config) { c.NATS.URL, c.ConnectWait = before.URL, 10*time.Second })
	duration := pick(t, 6*time.Second, 30*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var wait sync.WaitGroup
	var streams, lines atomic.Int64
	for _, f := range []func(*testing.T, int64, bool){s.upload, s.download, s.echo, s.echo} {
		wait.Go(func() {
			for n := int64(0); ctx.Err() == nil && !t.Failed(); n++ {
				f(t, 3_000_000+n*1_000_003%9_000_000, n%2 == 0)
				streams.Add(1)
			}
		})
	}
	for range 4 { // streams that live through all cuts
		wait.Go(func() { lines.Add(int64(s.follow(ctx, t, "/events", func(time.Duration) {}))) })
	}
	cuts := 0
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			cuts++
			if cuts%3 != 1 {
				before.Cut()
			}
			if cuts%3 != 2 {
				after.Cut()
			}
		case <-ctx.Done():
		}
	}
	wait.Wait()
	t.Logf("%d cuts, %d bodies of 3 to 12 MB and %d events unharmed", cuts, streams.Load(), lines.Load())
	if t.Failed() {
		t.Log(s.log.String())
	}
}

// events is a handler that sends numbered server-sent events until the caller leaves.
func events(every time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 0; ; i++ {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			if http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}
}

// follow reads numbered events until ctx ends, and returns how many came. None may be missing.
func (s *stage) follow(ctx context.Context, t *testing.T, path string, first func(time.Duration)) int {
	t.Helper()
	start := time.Now()
	resp, err := s.client.Do(s.request(ctx, t, "GET", path, nil))
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	n := 0
	for in.Scan() {
		if in.Text() == "" {
			continue
		}
		if want := "data: " + strconv.Itoa(n); in.Text() != want {
			t.Errorf("event %q, want %q", in.Text(), want)
			return n
		}
		if n == 0 {
			first(time.Since(start))
		}
		n++
	}
	if ctx.Err() == nil {
		t.Errorf("the stream ended after %d events: %v", n, in.Err())
	}
	return n
}

// latencies are collected by many goroutines.
type latencies struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

func (l *latencies) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) == 0 {
		return "none"
	}
	slices.Sort(l.all)
	at := func(share float64) time.Duration {
		return l.all[int(share*float64(len(l.all)-1))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("%d measured: p50 %v, p99 %v, max %v", len(l.all), at(0.5), at(0.99), at(1))
}

func roomy(s *stageConfig) {
	s.quiet = true
	s.worker = func(c *worker.Config) { c.MaxInFlight = 4096 }
	s.publisher = func(c *publisher.Config) { c.MaxInFlight = 4096 }
}

func TestAThousandEventStreams(t *testing.T) {
	const streams = 1000
	var c stageConfig
	roomy(&c)
	s := newStage(t, events(time.Second), c)
	rest, ramp := &latencies{}, &latencies{}
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		s.follow(ctx, t, "/", func(d time.Duration) { rest.add(d); cancel() })
		cancel()
	}
	t.Logf("first event, nothing else under way: %v", rest)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wait sync.WaitGroup
	var got atomic.Int64
	gate := make(chan struct{}, 32) // streams being opened
	for range streams {
		gate <- struct{}{}
		wait.Go(func() {
			opened := sync.OnceFunc(func() { <-gate })
			defer opened()
			got.Add(int64(s.follow(ctx, t, "/", func(d time.Duration) { ramp.add(d); opened() })))
		})
	}
	t.Logf("first event, 32 being opened at a time: %v", ramp)
	duration := pick(t, 3*time.Second, time.Minute)
	late := &latencies{}
	for stop := time.Now().Add(duration); time.Now().Before(stop); {
		probe, done := context.WithCancel(ctx)
		s.follow(probe, t, "/", func(d time.Duration) { late.add(d); done() })
		done()
	}
	t.Logf("first event of one more, %d under way: %v", streams, late)
	cancel()
	wait.Wait()
	t.Logf("%d events in %v and the ramp", got.Load(), duration)
	if least := int64(streams) * int64(duration/time.Second); got.Load() < least {
		t.Errorf("only %d events came, want at least %d", got.Load(), least)
	}
}

// A caller who leaves, or a deadline, ends the backend's work, whatever the request was doing.
func TestCancellationReachesTheBackend(t *testing.T) {
	ended := make(chan time.Time, 1)
	begun := make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/wait", func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // net/http watches the connection only when the body has been read
		begun <- struct{}{}
		<-r.Context().Done()
		ended <- time.Now()
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "head and a byte")
		_ = http.NewResponseController(w).Flush()
		begun <- struct{}{}
		<-r.Context().Done()
		ended <- time.Now()
	})
	mux.HandleFunc("/upload", func(_ http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
		ended <- time.Now()
	})
	s := newStage(t, mux, stageConfig{quiet: true})
	for _, c := range []struct {
		name, path string
		body       func(context.Context) io.Reader
		timeout    string
	}{
		{"before the reply", "/wait", func(context.Context) io.Reader { return nil }, ""},
		{"before the reply, POST", "/wait", func(context.Context) io.Reader { return strings.NewReader("x") }, ""},
		{"in the reply", "/stream", func(context.Context) io.Reader { return nil }, ""},
		{"in the upload", "/upload", func(ctx context.Context) io.Reader {
			r, w := io.Pipe()
			go func() { _, _ = w.Write([]byte("the beginning")) }()
			context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) }) // net/http's client waits for its body
			return r
		}, ""},
		{"by Obo-Timeout", "/wait", func(context.Context) io.Reader { return nil }, "0.05"},
	} {
		took := &latencies{}
		for range 25 {
			ctx, cancel := context.WithCancel(t.Context())
			r := s.request(ctx, t, "POST", c.path, c.body(ctx))
			if c.timeout != "" {
				r.Header.Set("Obo-Timeout", c.timeout)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				if resp, err := s.client.Do(r); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body) // ends with the cancellation
					_ = resp.Body.Close()
				}
			}()
			<-begun
			left := time.Now()
			if c.timeout == "" {
				cancel()
			} else {
				left = left.Add(50 * time.Millisecond) // about when the deadline passes
			}
			select {
			case at := <-ended:
				took.add(at.Sub(left))
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: the backend was not told", c.name)
			}
			cancel()
			<-done
		}
		t.Logf("%-24s %v", c.name, took)
	}
}
