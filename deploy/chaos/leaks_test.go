package chaos

import (
	"context"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// After many requests and many aborted streams everything is as it was after the first few: heap, goroutines, and the
// subscriptions that the broker counts.
func TestNothingPilesUp(t *testing.T) {
	requests, aborted := pick(t, 10_000, 100_000), pick(t, 1000, 5000)
	var active atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		active.Add(1)
		defer active.Add(-1)
		_, _ = io.Copy(w, newSource(1<<40))
	})
	var c stageConfig
	roomy(&c)
	s := newStage(t, mux, c)
	observed := &cast{monitors: []string{s.Broker.MonitorURL()}, client: s.client}

	s.small(t, 3000)
	s.abort(t, 100)
	s.rest(t, &active)
	subscriptions, goroutines, before := observed.subscriptions(t), runtime.NumGoroutine(), heap()
	if subscriptions == "" {
		t.Fatal("the broker shows no subscriptions")
	}
	const steps = 5
	for i := range steps {
		s.small(t, requests/steps)
		t.Logf("%6d requests: heap %.1f MiB, process %s", (i+1)*requests/steps, float64(heap())/mib, resident())
	}
	s.abort(t, aborted)
	t.Logf("%6d aborted streams: heap %.1f MiB, process %s", aborted, float64(heap())/mib, resident())
	s.rest(t, &active)

	// The worker keeps finished replies for 10 s, and remembers ids for 90 s: about 60 bytes each.
	allowed := int64(4*mib + 150*(requests+aborted))
	eventually(t, 30*time.Second, "the heap is as it was", func() bool { return heap()-before < allowed })
	t.Logf("at the end: heap %+.1f MiB, %+d goroutines", float64(heap()-before)/mib, runtime.NumGoroutine()-goroutines)
	const idle = 64 // goroutines that the worker keeps for requests to come
	eventually(t, 10*time.Second, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= goroutines+idle+5 })
	if now := observed.subscriptions(t); now != subscriptions {
		t.Errorf("subscriptions were %s, are %s", subscriptions, now)
	}
}

// small sends n requests of 1 KB, 32 at a time.
func (s *stage) small(t *testing.T, n int) {
	t.Helper()
	body := strings.Repeat("b", 1000)
	s.each(t, n, 32, func() {
		resp, err := s.client.Do(s.request(context.Background(), t, "POST", "/", strings.NewReader(body)))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != body {
			t.Errorf("status %d, %d bytes, %.200q, %v", resp.StatusCode, len(got), got, err)
		}
	})
}

// abort begins n endless downloads and leaves them after some bytes.
func (s *stage) abort(t *testing.T, n int) {
	t.Helper()
	s.each(t, n, 16, func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		resp, err := s.client.Do(s.request(ctx, t, "GET", "/endless", nil))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if _, err := io.CopyN(io.Discard, resp.Body, 100_000); err != nil {
			t.Error(err)
		}
	})
}

func (s *stage) each(t *testing.T, n, callers int, f func()) {
	t.Helper()
	var wait sync.WaitGroup
	var next atomic.Int64
	for range callers {
		wait.Go(func() {
			for next.Add(1) <= int64(n) && !t.Failed() {
				f()
			}
		})
	}
	wait.Wait()
}

// rest waits until nothing is under way and idle connections are closed.
func (s *stage) rest(t *testing.T, active *atomic.Int64) {
	t.Helper()
	eventually(t, 10*time.Second, "every handler has ended", func() bool { return active.Load() == 0 })
	s.client.CloseIdleConnections()
	last, since := runtime.NumGoroutine(), time.Now()
	eventually(t, 20*time.Second, "goroutines have ended", func() bool {
		if n := runtime.NumGoroutine(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > time.Second
	})
}

// resident is the process's resident memory, where the system tells.
func resident() string {
	text, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		return "unknown"
	}
	pages, _ := strconv.Atoi(fields[1])
	return strconv.Itoa(pages*os.Getpagesize()/mib) + " MiB"
}
