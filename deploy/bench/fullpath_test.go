package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// path is one way from an HTTP client to the HTTP backend.
type path struct {
	name string
	url  string
	most int64 // largest body it carries
}

// field is the backend and the ways to it.
type field struct {
	client *http.Client
	token  string
	paths  []path
}

const anySize = 1 << 40

// newField starts everything in this process, for profiles.
func newField(b testing.TB) *field {
	b.Helper()
	target := serve(b, backend())
	n := relaytest.New(b, io.Discard)
	quiet(n)
	server, client := n.Connect(n.Root), n.Connect(n.Root)
	relaytest.Must(b, gatewayBack(server, target))
	relaytest.Must(b, sealedBack(server, target))
	relaytest.Must(b, server.Flush())
	return &field{
		token: longToken("warm", time.Now().Add(time.Hour)), client: newClient(b),
		paths: ways(target, serve(b, hop(target)), serve(b, gatewayFront(client)), serve(b, sealedFront(client)), serve(b, relayed(b, n, target))),
	}
}

func newClient(b testing.TB) *http.Client {
	c := &http.Client{Transport: newTransport()}
	b.Cleanup(c.CloseIdleConnections)
	return c
}

// newTransport is the standard library's, as it comes but with enough idle connections.
func newTransport() *http.Transport {
	return &http.Transport{MaxIdleConnsPerHost: 1024, DisableCompression: true}
}

// The places of those that others are compared with, and ours, in what ways returns.
const (
	atDirect = iota
	_
	atFloor
	atSealed
	atOurs
)

func ways(direct, hop, gateway, sealed, relay string) []path {
	return []path{
		{"direct", direct, anySize},
		{"one ReverseProxy", hop, anySize},
		{"unsealed gateway", gateway, 1000 << 10},
		{"sealed gateway", sealed, 1000 << 10},
		{"obo-relay", relay, anySize},
	}
}

func serve(b testing.TB, h http.Handler) string {
	b.Helper()
	s := httptest.NewServer(h)
	b.Cleanup(s.Close)
	return s.URL
}

// hop is the standard library's reverse proxy.
func hop(target string) http.Handler {
	u, _ := url.Parse(target) // of httptest
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u) },
		Transport: newTransport(),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // or it breaks off echoes of more than a little
		proxy.ServeHTTP(w, r)
	})
}

// relayed is the sidecar, with a worker behind NATS that forwards to the backend.
func relayed(b testing.TB, n *relaytest.Net, target string) http.Handler {
	b.Helper()
	u, err := url.Parse(target)
	relaytest.Must(b, err)
	forward, err := worker.Forward(u, n.Log)
	relaytest.Must(b, err)
	n.Worker(forward, func(c *worker.Config) { c.MaxInFlight = 1024 })
	sidecar, err := publisher.NewSidecar(publisher.SidecarConfig{Transport: n.Publisher(nil), Service: relaytest.Service, Log: n.Log})
	relaytest.Must(b, err)
	return sidecar
}

// answerTime is what the backend takes for an answer, as an app that asks a database does.
const answerTime = 5 * time.Millisecond

// backend echoes bodies, at once or after a while, sleeps, and streams events or without an end.
func backend() http.Handler {
	mux := http.NewServeMux()
	buffers := sync.Pool{New: func() any { return new([64 << 10]byte) }}
	echo := func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
		buf := buffers.Get().(*[64 << 10]byte)
		defer buffers.Put(buf)
		_, _ = io.CopyBuffer(struct{ io.Writer }{w}, r.Body, buf[:]) // net/http's own would make a buffer for each request
	}
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/answer", func(w http.ResponseWriter, r *http.Request) {
		pauseFor(r.Context(), answerTime)
		echo(w, r)
	})
	mux.HandleFunc("/sleep", func(_ http.ResponseWriter, r *http.Request) { pauseFor(r.Context(), 50*time.Millisecond) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		for block := make([]byte, 64<<10); ; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: first\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	return mux
}

func pauseFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pattern is a body that costs its reader nothing.
type pattern struct{ left int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(b)), p.left)
	p.left -= n
	return int(n), nil
}

// echo sends a body of n bytes and reads it back.
func (f *field) echo(base string, n int64) error {
	var body io.Reader = &pattern{n}
	if n <= 64<<10 {
		body = bytes.NewReader(make([]byte, n))
	}
	r, err := http.NewRequest("POST", base+"/echo", body)
	if err != nil {
		return err
	}
	r.ContentLength = n
	r.Header.Set(relay.HeaderAccessToken, f.token)
	resp, err := f.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.Copy(io.Discard, resp.Body)
	if err == nil && (got != n || resp.StatusCode != http.StatusOK) {
		err = fmt.Errorf("status %d, %d of %d bytes", resp.StatusCode, got, n)
	}
	return err
}

// run is what one way did under one load, over all rounds.
type run struct {
	times []time.Duration
	wall  time.Duration
	err   error
}

func (r *run) rate() float64 { return float64(len(r.times)) / r.wall.Seconds() }

func (r *run) at(share float64) time.Duration {
	return r.times[int(share*float64(len(r.times)-1))]
}

// load is one row group of the table.
type load struct {
	size    int64
	callers int
}

func (l load) String() string { return fmt.Sprintf("%s, %d callers", bytesText(l.size), l.callers) }

func bytesText(n int64) string {
	if n >= 1e6 {
		return fmt.Sprint(n/1e6, " MB")
	}
	return fmt.Sprint(n/1024, " KB")
}

var loads = []load{
	{1 << 10, 1}, {1 << 10, 32}, {1 << 10, 256}, {64 << 10, 1}, {64 << 10, 32}, {64 << 10, 256}, {5e6, 1}, {5e6, 32}, {100e6, 1},
}

// round adds about d of one load to r.
func (f *field) round(r *run, p path, l load, d time.Duration) {
	if l.size > p.most {
		r.err = fmt.Errorf("too large")
	}
	if r.err != nil {
		return
	}
	var mu sync.Mutex
	var wait sync.WaitGroup
	start := time.Now()
	for range l.callers {
		wait.Go(func() {
			var times []time.Duration
			for first := true; first || time.Since(start) < d; first = false {
				t := time.Now()
				if err := f.echo(p.url, l.size); err != nil {
					mu.Lock()
					r.err = err
					mu.Unlock()
					return
				}
				times = append(times, time.Since(t))
			}
			mu.Lock()
			r.times = append(r.times, times...)
			mu.Unlock()
		})
	}
	wait.Wait()
	r.wall += time.Since(start)
}

// BenchmarkFullPath measures HTTP client to HTTP backend over every way, alternating, with each part a process of its own, and
// prints a table. The number of iterations is the number of rounds. OBO_BENCH_SVG names a file for the plot.
func BenchmarkFullPath(b *testing.B) {
	f := newProcesses(b)
	for _, p := range f.paths { // connections and grants are made before, and heaps have grown to where they stay
		f.round(&run{}, p, load{1 << 10, 32}, 4*time.Second)
	}
	results := map[load][]*run{}
	for b.Loop() {
		for _, l := range loads {
			if results[l] == nil {
				for range f.paths {
					results[l] = append(results[l], &run{})
				}
			}
			for i, p := range f.paths {
				f.round(results[l][i], p, l, 300*time.Millisecond)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	fmt.Print("\n", f.table(results))
	for l, runs := range results {
		slices.Sort(runs[atOurs].times)
		if err := runs[atOurs].err; err != nil {
			b.Errorf("%v: %v", l, err)
		}
	}
	if file := os.Getenv("OBO_BENCH_SVG"); file != "" {
		if err := os.WriteFile(file, []byte(f.plot(results)), 0o644); err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkAround measures what is no rate of echoes: first bytes, cancellation, sleepers, the start.
func BenchmarkAround(b *testing.B) {
	f := newProcesses(b)
	for _, p := range f.paths {
		f.round(&run{}, p, load{1 << 10, 32}, 200*time.Millisecond)
	}
	fmt.Printf("\n%-20s %18s %26s\n", "", "first event", "64 callers of 50 ms sleeps")
	for b.Loop() {
		for _, p := range f.paths {
			if p.most != anySize { // cannot stream
				continue
			}
			first := &run{}
			for range 200 {
				d, err := f.firstEvent(p.url)
				relaytest.Must(b, err)
				first.times = append(first.times, d)
			}
			slices.Sort(first.times)
			fmt.Printf("%-20s p50 %5.2f p99 %5.2f ms %14.0f requests/s\n", p.name, ms(first.at(0.5)), ms(first.at(0.99)), f.sleepers(b, p.url))
		}
	}
	b.ReportMetric(0, "ns/op")
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func (f *field) firstEvent(base string) (time.Duration, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", base+"/events", nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set(relay.HeaderAccessToken, f.token)
	start := time.Now()
	resp, err := f.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.ReadFull(resp.Body, make([]byte, 1))
	return time.Since(start), err
}

// sleepers is the rate of 64 callers whose requests sleep 50 ms: at best 1,280/s.
func (f *field) sleepers(b *testing.B, base string) float64 {
	var wait sync.WaitGroup
	const each = 20
	start := time.Now()
	for range 64 {
		wait.Go(func() {
			for range each {
				r, _ := http.NewRequest("GET", base+"/sleep", nil)
				r.Header.Set(relay.HeaderAccessToken, f.token)
				resp, err := f.client.Do(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	wait.Wait()
	return 64 * each / time.Since(start).Seconds()
}

// BenchmarkOne is one way alone, for profiles: number OBO_WAY of newField's (4, ours), OBO_CALLERS callers (1), bodies of
// OBO_SIZE bytes (1024).
func BenchmarkOne(b *testing.B) {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
			return n
		}
		return otherwise
	}
	callers, size := number("OBO_CALLERS", 1), int64(number("OBO_SIZE", 1<<10))
	f := newField(b)
	way := f.paths[number("OBO_WAY", atOurs)]
	f.round(&run{}, way, load{1 << 10, 32}, 200*time.Millisecond)
	b.SetBytes(size)
	b.ReportAllocs()
	b.ResetTimer()
	var wait sync.WaitGroup
	for c := range callers {
		wait.Go(func() {
			for range (b.N + callers - 1 - c) / callers {
				if err := f.echo(way.url, size); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
}
