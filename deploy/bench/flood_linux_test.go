package bench

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
)

// floods is a relay with an app that floods, and another app whose people must not suffer. Its parts are processes, as they
// are run: backend, broker, worker, the other app's publisher, and its people. This process is the one that floods.
type floods struct {
	*processes
	flood   *relaytest.Flood
	sidecar string
	backend string
	people  string
	to      *relay.Announcement
	nobody  *relay.Announcement // who is not there: what is sent to it costs the flooder and the broker, and no worker
	kinds   []floodKind
}

type floodKind struct {
	name string
	run  func(ctx context.Context, to *relay.Announcement) (messages int)
}

// newFloods starts everything. The worker asks no workspace who people are: that is not the relay's to be quick at.
func newFloods(b *testing.B) *floods {
	b.Helper()
	f := &floods{processes: &processes{field: &field{client: newClient(b)}}}
	f.openLog(b)
	var at struct{ broker, backend, sidecar, people string }
	ports := relaytest.FreePorts(b, 4)
	for i, address := range []*string{&at.broker, &at.backend, &at.sidecar, &at.people} {
		*address = "127.0.0.1:" + ports[i]
	}
	f.sidecar, f.backend, f.people = "http://"+at.sidecar, "http://"+at.backend, "http://"+at.people
	made, seed := initialize(b, setup.Config{
		Apps:     []setup.App{{Name: relaytest.App}, {Name: relaytest.FloodApp, Calls: []string{relaytest.Service}}},
		Services: []string{relaytest.Service, relaytest.Noisy}, NATSURL: "nats://" + at.broker,
	})
	f.relay(b, made, at.backend, at.sidecar, "--user-lookup", "off")
	f.part(b, "people", at.people, f.sidecar)

	root, err := connect("nats://"+at.broker, seed)
	relaytest.Must(b, err)
	b.Cleanup(root.Close)
	side := func(role relay.Role, name string) *relay.Side {
		s, err := (&relay.Settings{KitFile: made.Side(role, name).KitFile, Hints: relay.HintsFull}).Load(role)
		relaytest.Must(b, err)
		return s
	}
	f.flood = relaytest.NewFlood(b, side(relay.RoleApp, relaytest.FloodApp), side(relay.RoleService, relaytest.Noisy).Identity, root)
	f.token = longToken("warm", time.Now().Add(time.Hour))
	f.await(b, path{name: "the relay", url: f.sidecar})
	await(b, "people", func() error { _, err := f.others(0); return err })
	f.to = f.flood.Worker()
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
	messages("requests for a slow route", rate, func(to *relay.Announcement) func() *nats.Msg { return f.flood.Requests(to, "/sleep") })
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
		floodKind{"300 streams never read", f.hoard(f.flood.Publisher())},
		floodKind{"1000 requests of one person of the same app", f.person(round / 4)},
		floodKind{"1000 of them, in one instant", f.person(0)})
	return f
}

// callers sends n requests at once until ctx ends, the first of each within start. To nobody they go by no relay, straight to
// the backend: it has as much to do, and the machine nearly.
func (f *floods) callers(rt http.RoundTripper, n int, start time.Duration, base, path string, token func(i int) string, then func(context.Context, *http.Response)) func(context.Context, *relay.Announcement) int {
	return func(ctx context.Context, to *relay.Announcement) int {
		rt, url := rt, base+path
		if to == f.nobody {
			rt, url = f.client.Transport, f.backend+path
		}
		var sent atomic.Int64
		var wait sync.WaitGroup
		for i := range n {
			wait.Go(func() {
				pauseFor(ctx, start*time.Duration(i)/time.Duration(n))
				for ctx.Err() == nil {
					sent.Add(1)
					r, _ := http.NewRequestWithContext(ctx, "POST", url, nil)
					r.Header.Set(relay.HeaderAccessToken, token(i))
					resp, err := rt.RoundTrip(r)
					if err == nil {
						then(ctx, resp)
						_ = resp.Body.Close()
					}
					if err != nil || resp.StatusCode != http.StatusOK {
						pauseFor(ctx, time.Second) // as Retry-After says
					}
				}
			})
		}
		wait.Wait()
		return int(sent.Load())
	}
}

func (f *floods) hoard(t *publisher.Transport) func(context.Context, *relay.Announcement) int {
	tokens := make([]string, 10)
	for i := range tokens {
		tokens[i] = longToken(fmt.Sprint("hoarder", i), time.Now().Add(time.Hour))
	}
	return f.callers(t, 300, 0, "http://"+relaytest.Service, "/endless", func(i int) string { return tokens[i%len(tokens)] }, func(ctx context.Context, _ *http.Response) { <-ctx.Done() })
}

// person is somebody with 1000 requests at once, through the publisher of the others. Those that are refused come again a
// second later, so what began in one instant comes again in one.
func (f *floods) person(start time.Duration) func(context.Context, *relay.Announcement) int {
	token := longToken("mallory", time.Now().Add(time.Hour))
	return f.callers(f.client.Transport, 1000, start, f.sidecar, "/sleep", func(int) string { return token }, func(_ context.Context, resp *http.Response) { _, _ = io.Copy(io.Discard, resp.Body) })
}

// others is what the other app's people see for a while.
func (f *floods) others(d time.Duration) (times []time.Duration, err error) {
	resp, err := f.client.Get(f.people + "/?for=" + d.String())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", body)
	}
	if err != nil {
		return nil, err
	}
	return times, json.Unmarshal(body, &times)
}

// processorTime is what worker and publisher have used, to 10 ms each.
func (f *floods) processorTime(b *testing.B) (sum time.Duration) {
	b.Helper()
	for _, p := range []*relaytest.Process{f.worker, f.publisher} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
		relaytest.Must(b, err)
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])) // from the third on: proc_pid_stat(5)
		for _, field := range fields[14-3 : 16-3] {
			ticks, err := strconv.Atoi(field)
			relaytest.Must(b, err)
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}

// forgetPeak starts the measuring of peak again. Where that is forbidden, it goes on from the process's start.
func forgetPeak(p *relaytest.Process) {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.Pid()), []byte("5"), 0)
}

// peak is the most memory that a process has held, in MB.
func peak(b *testing.B, p *relaytest.Process) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	relaytest.Must(b, err)
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	var kb float64
	_, err = fmt.Sscan(after, &kb)
	relaytest.Must(b, err)
	return kb / 1e3
}

func percentile(times []time.Duration, share float64) time.Duration {
	slices.Sort(times)
	return times[int(share*float64(len(times)-1))]
}

// floodRun is what was measured of one kind of flood.
type floodRun struct {
	times    [4][]time.Duration // quiet, while it goes to nobody, while it goes to the worker, in the second after
	memory   [2]float64         // of the worker and the publisher, MB
	work     [2]time.Duration   // of both, to nobody and to the worker
	messages int
}

const round = time.Second

// run measures one round.
func (f *floods) run(b *testing.B, k floodKind, r *floodRun) {
	phase := func(p int) {
		times, err := f.others(round)
		relaytest.Must(b, err)
		r.times[p] = append(r.times[p], times...)
	}
	measured := []*relaytest.Process{f.worker, f.publisher}
	for _, p := range measured {
		forgetPeak(p)
	}
	phase(0)
	for p, to := range []*relay.Announcement{f.nobody, f.to} {
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan int)
		begun := f.processorTime(b)
		go func() { done <- k.run(ctx, to) }()
		pauseFor(ctx, round/4) // until it is under way
		phase(1 + p)
		cancel()
		r.messages += p * <-done
		r.work[p] += f.processorTime(b) - begun
	}
	phase(3)
	for i, p := range measured {
		r.memory[i] = max(r.memory[i], peak(b, p))
	}
}

// String is a line of the table.
func (r *floodRun) String() string {
	p50, p99 := percentile(r.times[0], 0.5), percentile(r.times[0], 0.99)
	line := fmt.Sprintf("%15s", fmt.Sprintf("%.1f/%.1f", ms(p50), ms(p99)))
	for _, t := range r.times[1:] {
		a, b := percentile(t, 0.5), percentile(t, 0.99)
		line += fmt.Sprintf(" %25s", fmt.Sprintf("%.1f/%.1f (%.2f, %.2f)", ms(a), ms(b), float64(a)/float64(p50), float64(b)/float64(p99)))
	}
	return line + fmt.Sprintf(" %9.0f %9.0f %9.0f", r.memory[0], r.memory[1], float64((r.work[1]-r.work[0]).Microseconds())/float64(r.messages))
}

// BenchmarkFlood prints what another app's people see while an app floods: quiet, while the same flood goes to nobody (so
// the machine, the flooder and the broker or the backend are as busy, and the worker is not), while it goes to the worker, and in the
// second after it; the most memory that worker and publisher held; and the processor time that a message costs them beyond
// that to nobody. The number of iterations is the number of rounds of a second each: a p99 needs ten. OBO_FLOOD_RATE is
// messages per second (5000).
func BenchmarkFlood(b *testing.B) {
	f := newFloods(b)
	_, err := f.others(round)
	relaytest.Must(b, err)
	var out strings.Builder
	const columns = "%-45s %15s %25s %25s %25s %9s %9s %9s\n"
	fmt.Fprintf(&out, "\n"+columns+columns, "flood", "quiet", "to nobody", "to the worker", "the second after", "worker", "publisher", "work",
		"", "p50/p99 ms", "p50/p99 ms (x quiet)", "p50/p99 ms (x quiet)", "p50/p99 ms (x quiet)", "MB", "MB", "µs each")
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
