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
		floodKind{"1000 requests of one person of the same app", f.person()})
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

// callers sends requests at once until ctx ends; to nobody it sends none.
func callers(t *publisher.Transport, n int, path string, token func(i int) string, then func(context.Context, *http.Response)) func(context.Context, *relay.Announcement, *relay.Announcement) int {
	return func(ctx context.Context, to, nobody *relay.Announcement) int {
		if to == nobody {
			<-ctx.Done()
			return 0
		}
		var sent atomic.Int64
		var wait sync.WaitGroup
		for i := range n {
			wait.Go(func() {
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
	run := callers(f.flood.Publisher(), 300, "/endless", func(i int) string { return tokens[i%len(tokens)] }, func(ctx context.Context, _ *http.Response) { <-ctx.Done() })
	return func(ctx context.Context, to *relay.Announcement) int { return run(ctx, to, f.nobody) }
}

func (f *floods) person() func(context.Context, *relay.Announcement) int {
	token := longToken("mallory", time.Now().Add(time.Hour))
	run := callers(f.client, 1000, "/slow", func(int) string { return token }, func(_ context.Context, resp *http.Response) { _, _ = io.Copy(io.Discard, resp.Body) })
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

// BenchmarkFlood prints what another app's people see while an app floods: quiet, while the same flood goes to nobody (so
// the machine, the flooder and the broker are as busy, and the worker is not), while it goes to the worker, and in the
// second after it; and the processor time that a message costs beyond that to nobody. The number of iterations is the number of rounds. OBO_FLOOD_RATE is messages per second (5000).
func BenchmarkFlood(b *testing.B) {
	f := newFloods(b)
	const round = time.Second
	f.others(b, round)
	results := make([][4][]time.Duration, len(f.kinds))
	memory := make([]uint64, len(f.kinds))
	work := make([][2]time.Duration, len(f.kinds)) // processor time, to nobody and to the worker
	messages := make([]int, len(f.kinds))
	during := func(k floodKind, to *relay.Announcement) (times []time.Duration, sent int, work time.Duration) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan int)
		begun := processorTime()
		go func() { done <- k.run(ctx, to) }()
		pauseFor(ctx, round/4) // until it is under way
		times = f.others(b, round)
		cancel()
		sent = <-done
		return times, sent, processorTime() - begun
	}
	for b.Loop() {
		for i, k := range f.kinds {
			phase := func(p int, times []time.Duration) { results[i][p] = append(results[i][p], times...) }
			phase(0, f.others(b, round))
			for p, to := range []*relay.Announcement{f.nobody, f.to} {
				times, sent, spent := during(k, to)
				phase(1+p, times)
				work[i][p] += spent
				messages[i] += p * sent
			}
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			memory[i] = max(memory[i], m.HeapInuse)
			phase(3, f.others(b, round))
		}
	}
	b.ReportMetric(0, "ns/op")
	var out strings.Builder
	fmt.Fprintf(&out, "\n%-45s %15s %15s %25s %25s %9s %9s\n%-45s %15s %15s %25s %25s %9s %9s\n", "flood", "quiet", "to nobody", "to the worker", "the second after", "heap", "work", "",
		"p50/p99 ms", "p50/p99 ms", "p50/p99 ms (x quiet)", "p50/p99 ms (x quiet)", "MB", "µs each")
	for i, k := range f.kinds {
		r := results[i]
		p50, p99 := percentile(r[0], 0.5), percentile(r[0], 0.99)
		pair := func(t []time.Duration) string {
			return fmt.Sprintf("%.1f/%.1f", ms(percentile(t, 0.5)), ms(percentile(t, 0.99)))
		}
		against := func(t []time.Duration) string {
			return fmt.Sprintf("%s (%.2f, %.2f)", pair(t), float64(percentile(t, 0.5))/float64(p50), float64(percentile(t, 0.99))/float64(p99))
		}
		fmt.Fprintf(&out, "%-45s %15s %15s %25s %25s %9.0f %9.0f\n", k.name, pair(r[0]), pair(r[1]), against(r[2]), against(r[3]), float64(memory[i])/1e6,
			float64((work[i][1]-work[i][0]).Microseconds())/float64(messages[i]))
	}
	fmt.Print(out.String())
}
