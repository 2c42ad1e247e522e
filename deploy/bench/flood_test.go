//go:build unix

package bench

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/child"
	"github.com/obo-relay/obo-relay/worker"
)

// floods is a relay with an app that floods, and another app whose people must not suffer.
type floods struct {
	n      *relaytest.Net
	flood  *relaytest.Flood
	client *publisher.Transport
	to     *relay.Announcement
	nobody *relay.Announcement // who is not there: what is sent to it costs the flooder and the broker, and no worker
	kinds  []floodKind
}

type floodKind struct {
	name string
	run  func(ctx context.Context, to *relay.Announcement) (messages int)
}

// answerTime is what the service takes for an answer, as an app that asks a database does.
const answerTime = 5 * time.Millisecond

func newFloods(b *testing.B) *floods {
	b.Helper()
	f := &floods{}
	f.n, f.flood = relaytest.NewWithFlood(b, io.Discard)
	quiet(f.n)
	w, _ := f.n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			block := make([]byte, 64<<10)
			for {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		case "/slow":
			pauseFor(r.Context(), 10*answerTime)
		default:
			pauseFor(r.Context(), answerTime)
			_, _ = io.Copy(w, r.Body)
		}
	}), func(c *worker.Config) { c.Log = f.n.Log })
	f.client = f.n.Publisher(nil)
	f.to = f.flood.Worker(w.Instance())
	nobody := *f.to
	nobody.Instance = relay.NewInstance()
	f.nobody = &nobody
	rate, err := strconv.Atoi(cmp.Or(os.Getenv("OBO_FLOOD_RATE"), "5000"))
	relaytest.Must(b, err)
	messages := func(name string, rate int, next func(*relay.Announcement) func() *nats.Msg) {
		f.kinds = append(f.kinds, floodKind{name, func(ctx context.Context, to *relay.Announcement) int { return f.flood.Run(ctx, rate, next(to)) }})
	}
	messages("garbage, 2 KB", rate, func(to *relay.Announcement) func() *nats.Msg { return f.flood.Garbage(to, 2<<10) })
	messages("garbage, 64 KB", rate/10, func(to *relay.Announcement) func() *nats.Msg { return f.flood.Garbage(to, 64<<10) })
	grants := func(forged bool) func(to *relay.Announcement) func() *nats.Msg {
		makers := map[string]func() *nats.Msg{f.to.Instance: f.flood.Grants(f.to, forged), f.nobody.Instance: f.flood.Grants(f.nobody, forged)}
		return func(to *relay.Announcement) func() *nats.Msg { return makers[to.Instance] }
	}
	messages("forged grants", rate, grants(true))
	messages("new grants", rate, grants(false))
	messages("requests for a slow route", rate, func(to *relay.Announcement) func() *nats.Msg { return f.flood.Requests(to, "/slow") })
	messages("frames for no request", rate, func(to *relay.Announcement) func() *nats.Msg { return f.flood.Frames(to, 4<<10) })
	messages("discover", rate, func(to *relay.Announcement) func() *nats.Msg {
		if to == f.nobody {
			return func() *nats.Msg { return &nats.Msg{Subject: "obo.v1.discover.nobody"} }
		}
		return f.flood.Discover
	})
	announcements := f.flood.Announcements()
	messages("announcements", rate, func(to *relay.Announcement) func() *nats.Msg {
		if to == f.nobody {
			return func() *nats.Msg { m := announcements(); m.Subject = "obo.v1.announce.nobody"; return m }
		}
		return announcements
	})
	f.kinds = append(f.kinds,
		floodKind{"300 streams never read", f.hoard()},
		floodKind{"1000 requests of one person of the same app", f.person(round / 4)},
		floodKind{"1000 of them, in one instant", f.person(0)})
	return f
}

func pauseFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// callers sends n requests at once until ctx ends, the first of each within start; to nobody it sends none.
func callers(t *publisher.Transport, n int, start time.Duration, path string, token func(i int) string, then func(context.Context, *http.Response)) func(context.Context, *relay.Announcement, *relay.Announcement) int {
	return func(ctx context.Context, to, nobody *relay.Announcement) int {
		if to == nobody {
			<-ctx.Done()
			return 0
		}
		var sent atomic.Int64
		var wait sync.WaitGroup
		for i := range n {
			wait.Go(func() {
				pauseFor(ctx, start*time.Duration(i)/time.Duration(n))
				for ctx.Err() == nil {
					sent.Add(1)
					r, _ := http.NewRequestWithContext(ctx, "POST", "http://middleware"+path, nil)
					r.Header.Set(relay.HeaderAccessToken, token(i))
					if resp, err := t.RoundTrip(r); err == nil {
						then(ctx, resp)
						_ = resp.Body.Close()
					} else {
						pauseFor(ctx, time.Second) // as Retry-After says
					}
				}
			})
		}
		wait.Wait()
		return int(sent.Load())
	}
}

func (f *floods) hoard() func(context.Context, *relay.Announcement) int {
	tokens := make([]string, 10)
	for i := range tokens {
		tokens[i] = longToken(fmt.Sprint("hoarder", i), time.Now().Add(time.Hour))
	}
	run := callers(f.flood.Publisher(), 300, 0, "/endless", func(i int) string { return tokens[i%len(tokens)] }, func(ctx context.Context, _ *http.Response) { <-ctx.Done() })
	return func(ctx context.Context, to *relay.Announcement) int { return run(ctx, to, f.nobody) }
}

// person is somebody with 1000 requests at once. Those that are refused come again a second later, so what began in one
// instant comes again in one.
func (f *floods) person(start time.Duration) func(context.Context, *relay.Announcement) int {
	token := longToken("mallory", time.Now().Add(time.Hour))
	run := callers(f.client, 1000, start, "/slow", func(int) string { return token }, func(_ context.Context, resp *http.Response) { _, _ = io.Copy(io.Discard, resp.Body) })
	return func(ctx context.Context, to *relay.Announcement) int { return run(ctx, to, f.nobody) }
}

// others is what four people of the other app see for a while: each sends a request, with the time between that a person's
// page leaves, and every tenth one is a new person.
func (f *floods) others(b *testing.B, d time.Duration) []time.Duration {
	var mu sync.Mutex
	var all []time.Duration
	var wait sync.WaitGroup
	expiry := time.Now().Add(time.Hour)
	start := time.Now()
	for c := range 4 {
		wait.Go(func() {
			known := longToken(fmt.Sprint("other", c), expiry)
			var times []time.Duration
			for i := 0; time.Since(start) < d; i++ {
				token := known
				if i%10 == 9 {
					token = longToken(relay.NewID().String(), expiry)
				}
				r, _ := http.NewRequest("POST", "http://middleware/", bytes.NewReader(make([]byte, size)))
				r.Header.Set(relay.HeaderAccessToken, token)
				begun := time.Now()
				resp, err := f.client.RoundTrip(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if err != nil {
					b.Error(err)
					return
				}
				times = append(times, time.Since(begun))
				pauseFor(context.Background(), answerTime)
			}
			mu.Lock()
			all = append(all, times...)
			mu.Unlock()
		})
	}
	wait.Wait()
	return all
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func percentile(times []time.Duration, share float64) time.Duration {
	slices.Sort(times)
	return times[int(share*float64(len(times)-1))]
}

// floodRun is what was measured of one kind of flood.
type floodRun struct {
	times    [4][]time.Duration // quiet, while it goes to nobody, while it goes to the worker, in the second after
	heap     uint64
	work     [2]time.Duration // processor time, to nobody and to the worker
	messages int
}

const round = time.Second

// run measures one round.
func (f *floods) run(b *testing.B, k floodKind, r *floodRun) {
	phase := func(p int) { r.times[p] = append(r.times[p], f.others(b, round)...) }
	phase(0)
	for p, to := range []*relay.Announcement{f.nobody, f.to} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan int)
		begun := processorTime()
		go func() { done <- k.run(ctx, to) }()
		pauseFor(ctx, round/4) // until it is under way
		phase(1 + p)
		cancel()
		r.messages += p * <-done
		r.work[p] += processorTime() - begun
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.heap = max(r.heap, m.HeapInuse)
	phase(3)
}

// String is a line of the table.
func (r *floodRun) String() string {
	p50, p99 := percentile(r.times[0], 0.5), percentile(r.times[0], 0.99)
	line := fmt.Sprintf("%15s", fmt.Sprintf("%.1f/%.1f", ms(p50), ms(p99)))
	for _, t := range r.times[1:] {
		a, b := percentile(t, 0.5), percentile(t, 0.99)
		line += fmt.Sprintf(" %25s", fmt.Sprintf("%.1f/%.1f (%.2f, %.2f)", ms(a), ms(b), float64(a)/float64(p50), float64(b)/float64(p99)))
	}
	return line + fmt.Sprintf(" %9.0f %9.0f", float64(r.heap)/1e6, float64((r.work[1]-r.work[0]).Microseconds())/float64(r.messages))
}

// BenchmarkFlood prints what another app's people see while an app floods: quiet, while the same flood goes to nobody (so
// the machine, the flooder and the broker are as busy, and the worker is not), while it goes to the worker, and in the
// second after it; and the processor time that a message costs beyond that to nobody. The number of iterations is the
// number of rounds of a second each: a p99 needs ten. OBO_FLOOD_RATE is messages per second (5000). The heap is kept as the
// commands keep it.
func BenchmarkFlood(b *testing.B) {
	child.Slack()
	f := newFloods(b)
	f.others(b, round)
	var out strings.Builder
	fmt.Fprintf(&out, "\n%-45s %15s %25s %25s %25s %9s %9s\n%-45s %15s %25s %25s %25s %9s %9s\n", "flood", "quiet", "to nobody", "to the worker", "the second after", "heap", "work", "",
		"p50/p99 ms", "p50/p99 ms (x quiet)", "p50/p99 ms (x quiet)", "p50/p99 ms (x quiet)", "MB", "µs each")
	for _, k := range f.kinds {
		b.Run(k.name, func(b *testing.B) {
			r := &floodRun{}
			for b.Loop() {
				f.run(b, k, r)
			}
			b.ReportMetric(0, "ns/op")
			fmt.Fprintf(&out, "%-45s %s\n", k.name, r)
		})
	}
	fmt.Print(out.String())
}
