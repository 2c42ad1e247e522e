package chaos

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// source is a reader of n bytes that look random, which hashes what it gave.
type source struct {
	rng  *rand.ChaCha8
	left int64
	sum  hash.Hash
}

// sourced counts what all sources gave.
var sourced atomic.Int64

func newSource(n int64) *source {
	var seed [32]byte
	copy(seed[:], strconv.FormatInt(n, 10))
	return &source{rand.NewChaCha8(seed), n, sha256.New()}
}

func (s *source) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), s.left)]
	_, _ = s.rng.Read(p) // never fails
	_, _ = s.sum.Write(p)
	s.left -= int64(len(p))
	sourced.Add(int64(len(p)))
	return len(p), nil
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// bodies is a backend: /echo sends back what comes while it comes, /sink says what came, /bytes?n= sends n bytes. The sum
// is a trailer.
func bodies() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		if r.ContentLength >= 0 {
			w.Header().Set("X-Length", strconv.FormatInt(r.ContentLength, 10))
		}
		w.Header().Set("Trailer", "X-Sum")
		sum := sha256.New()
		if _, err := io.Copy(w, io.TeeReader(r.Body, sum)); err != nil {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("X-Sum", hexSum(sum))
	})
	mux.HandleFunc("/sink", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		_, _ = fmt.Fprintf(w, "%d %s %v", n, hexSum(sum), err)
	})
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if r.FormValue("known") != "" {
			w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		} else {
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.Copy(w, newSource(n))
	})
	return mux
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

// edges are the sizes around the limits of the relay: inline body and reply buffer, frame and first window, widest window.
func edges() []int64 {
	sizes := []int64{0, 1}
	for _, limit := range []int64{32 * kib, relay.MaxFrame, 128 * kib, mib} {
		sizes = append(sizes, limit-1, limit, limit+1)
	}
	return append(sizes, 5_000_000)
}

func TestBodiesOfEverySizeCrossUnchanged(t *testing.T) {
	s := newStage(t, bodies(), stageConfig{})
	for _, size := range edges() {
		for _, known := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d,known=%v", size, known), func(t *testing.T) {
				s.echo(t, size, known)
				s.upload(t, size, known)
				s.download(t, size, known)
			})
		}
	}
	if t.Failed() {
		t.Log(s.log.String())
	}
}

// A head so large that a body of the inline size does not fit beside it.
func TestBodyBesideALargeHead(t *testing.T) {
	s := newStage(t, bodies(), stageConfig{})
	for _, size := range []int64{1, 32*kib - 1, 32 * kib, 32*kib + 1} {
		body := newSource(size)
		r := s.request(t.Context(), t, "POST", "/echo", io.NopCloser(body))
		r.ContentLength = size
		for i := range 31 {
			r.Header.Set(fmt.Sprint("X-Large-", i), strings.Repeat("h", 1000))
		}
		s.checkEcho(t, r, body, size)
	}
}

func (s *stage) echo(t *testing.T, size int64, known bool) {
	t.Helper()
	body := newSource(size)
	r := s.request(t.Context(), t, "POST", "/echo", io.NopCloser(body))
	if r.ContentLength = -1; known {
		r.ContentLength = size
	}
	if known && size == 0 {
		r.Body = http.NoBody
	}
	s.checkEcho(t, r, body, size)
}

func (s *stage) checkEcho(t *testing.T, r *http.Request, body *source, size int64) {
	t.Helper()
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatalf("echo of %d: %v", size, err)
	}
	defer resp.Body.Close()
	got := sha256.New()
	n, err := io.Copy(got, resp.Body)
	want := hexSum(body.sum)
	if err != nil || resp.StatusCode != http.StatusOK || n != size || hexSum(got) != want || resp.Trailer.Get("X-Sum") != want {
		t.Fatalf("echo of %d: status %d, %d bytes, error %v, same bytes: %v, backend saw the same: %v", size, resp.StatusCode, n, err, hexSum(got) == want, resp.Trailer.Get("X-Sum") == want)
	}
	if r.ContentLength >= 0 && resp.Header.Get("X-Length") != strconv.FormatInt(size, 10) {
		t.Errorf("echo of %d: the backend was told the length %q", size, resp.Header.Get("X-Length"))
	}
}

func (s *stage) upload(t *testing.T, size int64, known bool) {
	t.Helper()
	body := newSource(size)
	r := s.request(t.Context(), t, "PUT", "/sink", io.NopCloser(body))
	if r.ContentLength = -1; known {
		r.ContentLength = size
	}
	if known && size == 0 {
		r.Body = http.NoBody
	}
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatalf("upload of %d: %v", size, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintf("%d %s <nil>", size, hexSum(body.sum)); err != nil || string(got) != want {
		t.Fatalf("upload of %d: %d %q %v, want %s", size, resp.StatusCode, got, err, want)
	}
}

func (s *stage) download(t *testing.T, size int64, known bool) {
	t.Helper()
	path := fmt.Sprintf("/bytes?n=%d", size)
	if known {
		path += "&known=1"
	}
	resp, err := s.client.Do(s.request(t.Context(), t, "GET", path, nil))
	if err != nil {
		t.Fatalf("download of %d: %v", size, err)
	}
	defer resp.Body.Close()
	got := sha256.New()
	n, err := io.Copy(got, resp.Body)
	want := newSource(size)
	_, _ = io.Copy(io.Discard, want)
	if err != nil || n != size || hexSum(got) != hexSum(want.sum) {
		t.Fatalf("download of %d: status %d, %d bytes, error %v", size, resp.StatusCode, n, err)
	}
	if length := resp.ContentLength; known && length != size || !known && size > 0 && length != -1 {
		t.Errorf("download of %d: Content-Length %d", size, length)
	}
}

func TestMaxBody(t *testing.T) {
	const limit = 200_000
	s := newStage(t, bodies(), stageConfig{worker: func(c *worker.Config) { c.MaxBody = limit }})
	for _, known := range []bool{true, false} {
		s.upload(t, limit-1, known)
		s.upload(t, limit, known)
		r := s.request(t.Context(), t, "PUT", "/sink", io.NopCloser(newSource(limit+1)))
		if r.ContentLength = -1; known {
			r.ContentLength = limit + 1
		}
		resp, err := s.client.Do(r)
		relaytest.Must(t, err)
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(text), "body_too_large") {
			t.Errorf("one byte over the limit, length known %v: %d %s %v", known, resp.StatusCode, text, err)
		}
	}
	s.upload(t, limit, true) // and it still serves
}

// The reader stops half-way, so that every buffer on the way is full, and the heap is measured after garbage collection.
// Everything runs in this process, client, broker and backend too, so what a stream adds is more than what the relay holds.
func TestLargeBodiesTakeLittleMemory(t *testing.T) {
	const most = 8 * mib
	gate := newGate()
	mux := http.NewServeMux()
	mux.HandleFunc("/bytes", bodies().ServeHTTP)
	mux.HandleFunc("/sink", func(w http.ResponseWriter, r *http.Request) {
		r.Body = io.NopCloser(gate.reader(r.Body, r.ContentLength/2))
		bodies().ServeHTTP(w, r)
	})
	s := newStage(t, mux, stageConfig{quiet: true})
	s.download(t, 5_000_000, true)
	for _, size := range pick(t, []int64{100e6}, []int64{100e6, 2e9}) {
		for _, way := range []struct {
			name string
			run  func()
		}{
			{"up", func() { s.upload(t, size, true) }},
			{"down", func() { s.gatedDownload(t, size, gate) }},
		} {
			before := heap()
			start := time.Now()
			done := make(chan struct{})
			go func() { defer close(done); way.run() }()
			full := gate.whenStill(t)
			stopped := time.Now()
			held := heap() - before
			paused := time.Since(stopped)
			gate.open()
			<-done
			rate := float64(size) / 1e6 / (time.Since(start) - paused - full).Seconds()
			t.Logf("%5d MB %-4s: %.2f MiB held at half-way, %.0f MB/s", size/1e6, way.name, float64(held)/mib, rate)
			if held > most {
				t.Errorf("%d MB %s: the stream holds %.1f MiB", size/1e6, way.name, float64(held)/mib)
			}
		}
		start := time.Now()
		s2 := newStage(t, bodies(), stageConfig{quiet: true})
		s2.echo(t, size, true)
		t.Logf("%5d MB both ways at once: %.0f MB/s each way", size/1e6, float64(size)/1e6/time.Since(start).Seconds())
	}
}

// gate stops a reader at some byte until it is opened.
type gate struct {
	stopped chan struct{} // gets one when a reader has stopped
	opened  chan struct{}
}

func newGate() *gate { return &gate{make(chan struct{}, 1), make(chan struct{})} }

func (g *gate) open() { g.opened <- struct{}{} }

// whenStill waits for the reader to stop, and then for the buffers before it to fill. It returns how long the latter took.
func (g *gate) whenStill(t *testing.T) time.Duration {
	t.Helper()
	<-g.stopped
	start := time.Now()
	last, since := sourced.Load(), start
	eventually(t, 10*time.Second, "the buffers are full", func() bool {
		if n := sourced.Load(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 300*time.Millisecond
	})
	return time.Since(start)
}

func (g *gate) reader(r io.Reader, at int64) io.Reader {
	stop := readerFunc(func([]byte) (int, error) {
		g.stopped <- struct{}{}
		<-g.opened
		return 0, io.EOF
	})
	return io.MultiReader(io.LimitReader(r, at), stop, r)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (s *stage) gatedDownload(t *testing.T, size int64, g *gate) {
	resp, err := s.client.Do(s.request(t.Context(), t, "GET", fmt.Sprintf("/bytes?n=%d", size), nil))
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	got, want := sha256.New(), newSource(size)
	n, err := io.Copy(got, g.reader(resp.Body, size/2))
	_, _ = io.Copy(io.Discard, want)
	if err != nil || n != size || hexSum(got) != hexSum(want.sum) {
		t.Errorf("download of %d: %d bytes, error %v", size, n, err)
	}
}

// heap is what the heap holds after garbage collection.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the second empties sync.Pool's victims
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
