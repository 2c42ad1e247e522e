package relaytest_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/hostile"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// noise is n bytes that are the same for the same seed.
func noise(seed uint64, n int) io.Reader {
	var key [32]byte
	key[0] = byte(seed)
	return io.LimitReader(rand.NewChaCha8(key), int64(n))
}

func sumOf(r io.Reader) (sum string, n int64, err error) {
	h := sha256.New()
	n, err = io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// Bodies of all sizes arrive whole in both directions, of known length and not.
func TestBodies(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }), nil)
	client := n.Publisher(nil)
	for _, size := range []int{0, 1, 1000, 32<<10 - 1, 32 << 10, 32<<10 + 1, 48 << 10, 64 << 10, 64<<10 + 1, 200_000, 5 << 20} {
		for _, known := range []bool{true, false} {
			body, err := io.ReadAll(noise(1, size))
			relaytest.Must(t, err)
			var reader io.Reader = bytes.NewReader(body)
			if !known {
				reader = io.MultiReader(reader)
			}
			got := do(client, newRequest(t, "POST", "/", reader))
			if got.err != nil || got.body != string(body) {
				t.Errorf("%d bytes, known %v: %d bytes came back, %v", size, known, len(got.body), got.err)
			}
		}
	}
}

// Server-sent events arrive one by one, when the handler flushes, through the sidecar too.
func TestEventsArriveAsFlushed(t *testing.T) {
	n, _ := start(t)
	next := make(chan string)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for {
			select {
			case text, more := <-next:
				if !more {
					return
				}
				fmt.Fprintf(w, "data: %s\n\n", text)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}), nil)
	client := n.Publisher(nil)
	server := sidecar(t, client)
	for _, via := range []string{"transport", "sidecar"} {
		r := newRequest(t, "GET", "/events", nil)
		var rt http.RoundTripper = client
		if via == "sidecar" {
			r.URL.Host, r.Host = server.Listener.Addr().String(), ""
			rt = sidecarClient(t).Transport
		}
		resp, err := rt.RoundTrip(r)
		relaytest.Must(t, err)
		lines := bufio.NewScanner(resp.Body)
		for i := range 10 {
			next <- fmt.Sprint(i) // the next event is made only when this one has been read
			if !lines.Scan() || lines.Text() != fmt.Sprint("data: ", i) || !lines.Scan() {
				t.Fatalf("%s: event %d: %q %v", via, i, lines.Text(), lines.Err())
			}
		}
		relaytest.Must(t, resp.Body.Close())
	}
}

// Both directions at once: what is written is read before more is written.
func TestFullDuplex(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 100)
		for {
			k, err := r.Body.Read(buf)
			_, _ = w.Write(bytes.ToUpper(buf[:k]))
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	}), nil)
	in, out := io.Pipe()
	type result struct {
		resp *http.Response
		err  error
	}
	client := n.Publisher(nil)
	r := newRequest(t, "POST", "/", in)
	got := make(chan result, 1)
	go func() {
		resp, err := client.RoundTrip(r)
		got <- result{resp, err}
	}()
	_, err := io.WriteString(out, "a")
	relaytest.Must(t, err)
	res := relaytest.Recv(t, got, "the reply's head")
	relaytest.Must(t, res.err)
	defer res.resp.Body.Close()
	buf := make([]byte, 10)
	for i := range 20 {
		k, err := res.resp.Body.Read(buf)
		if err != nil || !strings.EqualFold(string(buf[:k]), string(rune('a'+i))) {
			t.Fatalf("%d: %q %v", i, buf[:k], err)
		}
		_, err = io.WriteString(out, string(rune('a'+i+1)))
		relaytest.Must(t, err)
	}
	relaytest.Must(t, out.Close())
	_, err = io.Copy(io.Discard, res.resp.Body)
	relaytest.Must(t, err)
}

// A caller that leaves is felt by the handler at once, before the reply and in its middle.
func TestCancellation(t *testing.T) {
	n, log := start(t)
	running, ended := make(chan struct{}, 1), make(chan error, 1)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/streams" {
			_, _ = io.WriteString(w, "first")
			w.(http.Flusher).Flush()
		}
		running <- struct{}{}
		<-r.Context().Done()
		ended <- context.Cause(r.Context())
	}), nil)
	client := n.Publisher(nil)
	for _, path := range []string{"/waits", "/streams"} {
		ctx, cancel := context.WithCancel(t.Context())
		r := newRequest(t, "POST", path, nil).WithContext(ctx)
		got := make(chan reply, 1)
		go func() { got <- do(client, r) }()
		relaytest.Recv(t, running, "the handler")
		began := time.Now()
		cancel()
		relaytest.Recv(t, got, "the caller's own end").wantCode(t, relay.CodeCanceled)
		if cause := relaytest.Recv(t, ended, "the handler's context"); cause == nil {
			t.Error("no cause")
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
	}
	log.WaitTimes(t, 2, "msg=request", "code=canceled")
}

// A response that is closed half read ends the handler.
func TestResponseClosedHalfRead(t *testing.T) {
	n, _ := start(t)
	ended := make(chan error, 1)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(w, noise(1, 100<<20))
		ended <- err
	}), nil)
	resp, err := n.Publisher(nil).RoundTrip(newRequest(t, "GET", "/", nil))
	relaytest.Must(t, err)
	_, err = io.ReadFull(resp.Body, make([]byte, 1000))
	relaytest.Must(t, err)
	relaytest.Must(t, resp.Body.Close())
	if relaytest.Recv(t, ended, "the handler's end") == nil {
		t.Error("the handler wrote everything")
	}
	if _, err := resp.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("reading after Close: %v", err)
	}
}

func TestTrailers(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum, X-Count")
		sum, count, _ := sumOf(io.TeeReader(r.Body, w))
		w.Header().Set("X-Sum", sum)
		w.Header().Set("X-Count", fmt.Sprint(count))
		w.Header().Set(http.TrailerPrefix+"X-Late", r.Trailer.Get("X-Asked"))
		w.Header().Set(http.TrailerPrefix+"X-Forwarded-User", "spoofed")
	}), nil)
	client := n.Publisher(nil)
	server := sidecar(t, client)
	for _, size := range []int{0, 10, 200_000} {
		for _, via := range []string{"transport", "sidecar"} {
			r := newRequest(t, "POST", "/", io.MultiReader(noise(2, size)))
			r.Trailer = http.Header{"X-Asked": {"yes"}}
			var rt http.RoundTripper = client
			if via == "sidecar" {
				r.URL.Host, r.Host = server.Listener.Addr().String(), ""
				rt = sidecarClient(t).Transport
			}
			got := do(rt, r)
			relaytest.Must(t, got.err)
			sum, _, _ := sumOf(noise(2, size))
			if got.Trailer.Get("X-Sum") != sum || got.Trailer.Get("X-Count") != fmt.Sprint(size) || got.Trailer.Get("X-Late") != "yes" || got.Trailer.Get("X-Forwarded-User") != "" {
				t.Errorf("%s, %d bytes: %v", via, size, got.Trailer)
			}
			if got.Header.Get("X-Sum") != "" || got.Header.Get(http.TrailerPrefix+"X-Late") != "" {
				t.Errorf("%s, %d bytes: trailers in the header: %v", via, size, got.Header)
			}
		}
	}
}

// A request whose trailers net/http reads but would not write is served, without those.
func TestMalformedTrailersAreLeftOut(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %v %v", body, err, r.Trailer)
	}), nil)
	client := n.Publisher(nil)
	server := sidecar(t, client)

	r := newRequest(t, "POST", "/", io.MultiReader(strings.NewReader("body")))
	r.Trailer = http.Header{"X-Good": {"one\r\ntwo"}}
	do(client, r).want(t, http.StatusOK, "body <nil> map[X-Good:[one  two]]")

	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	relaytest.Must(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nTrailer: X-Good\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"4\r\nbody\r\n0\r\nX-Good: yes\r\nX Bad: no\r\n\r\n", alice())
	relaytest.Must(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	relaytest.Must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	reply{resp, string(body), err}.want(t, http.StatusOK, "body <nil> map[X-Good:[yes]]")
}

// Replies without a body keep their headers and end at once.
func TestRepliesWithoutBody(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
			if _, err := io.WriteString(w, "no"); err == nil {
				t.Error("a body for 204")
			}
		case "/304":
			w.Header().Set("Etag", `"x"`)
			w.WriteHeader(304)
		case "/length":
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "hello")
		case "/large":
			_, _ = w.Write(make([]byte, 100_000))
		default:
			_, _ = io.WriteString(w, "hello")
		}
	}), nil)
	client := n.Publisher(nil)
	server := sidecar(t, client)
	for _, c := range []struct {
		method, path string
		status       int
		length       string
		body         string
	}{
		{"GET", "/204", 204, "", ""}, {"GET", "/304", 304, "", ""},
		{"HEAD", "/", 200, "5", ""}, {"HEAD", "/length", 200, "5", ""}, {"HEAD", "/204", 204, "", ""}, {"HEAD", "/large", 200, "100000", ""},
		{"GET", "/", 200, "5", "hello"}, {"GET", "/length", 200, "5", "hello"},
	} {
		for _, via := range []string{"transport", "sidecar"} {
			r := newRequest(t, c.method, c.path, nil)
			var rt http.RoundTripper = client
			if via == "sidecar" {
				r.URL.Host, r.Host = server.Listener.Addr().String(), ""
				rt = sidecarClient(t).Transport
			}
			got := do(rt, r)
			if got.err != nil || got.StatusCode != c.status || got.body != c.body || got.Header.Get("Content-Length") != c.length {
				t.Errorf("%s %s via %s: %s, length %q", c.method, c.path, via, got, got.Header.Get("Content-Length"))
			}
			if c.method == "GET" && got.ContentLength != int64(len(c.body)) {
				t.Errorf("%s via %s: %d bytes are said to come", c.path, via, got.ContentLength)
			}
			if c.path == "/304" && got.Header.Get("Etag") != `"x"` {
				t.Error("304 without its header")
			}
		}
	}
}

// Informational replies reach whoever traces them, before the reply.
func TestInformationalReplies(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Set("Link", "</b.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "done")
	}), nil)
	client := n.Publisher(nil)
	server := sidecar(t, client)
	for _, via := range []string{"transport", "sidecar"} {
		var links []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			links = append(links, fmt.Sprint(code, " ", h.Get("Link")))
			return nil
		}}
		r := newRequest(t, "GET", "/", nil)
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
		var rt http.RoundTripper = client
		if via == "sidecar" {
			r.URL.Host, r.Host = server.Listener.Addr().String(), ""
			rt = sidecarClient(t).Transport
		}
		do(rt, r).want(t, 200, "done")
		if got := strings.Join(links, "|"); got != "103 </a.css>; rel=preload|103 </b.css>; rel=preload" {
			t.Errorf("%s: %s", via, got)
		}
	}
}

// endless is a body that never ends, and notes that it was closed.
type endless struct {
	closed chan struct{}
	once   sync.Once
}

func (e *endless) Read(p []byte) (int, error) {
	select {
	case <-e.closed:
		return 0, io.ErrClosedPipe
	default:
		return len(p), nil
	}
}

func (e *endless) Close() error {
	e.once.Do(func() { close(e.closed) })
	return nil
}

// A handler that answers without reading a large upload: the answer arrives, the upload is ended.
func TestEarlyResponseToALargeUpload(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 100_000))
		w.WriteHeader(403)
		_, _ = io.WriteString(w, "no")
	}), nil)
	client := n.Publisher(nil)
	body := &endless{closed: make(chan struct{})}
	r := newRequest(t, "POST", "/", nil)
	r.Body, r.ContentLength = body, -1
	do(client, r).want(t, 403, "no")
	relaytest.Recv(t, body.closed, "the upload's end")
}

// cutEvery cuts the connections of the proxies in turn until stopped, each time after bytes have moved.
func cutEvery(t *testing.T, every time.Duration, proxies ...*hostile.Door) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				proxies[i%len(proxies)].Cut()
			}
		}
	}()
	return func() { cancel(); <-done }
}

// Both sides' NATS connections are cut again and again under streams of 20 MB each way: no byte is lost, none comes twice,
// and the handler runs once. The streams pause so that they live through several cuts.
func TestConnectionsCutUnderAStream(t *testing.T) {
	n, _ := start(t)
	const size, part = 20 << 20, 4 << 20
	pause := make(chan struct{}) // one for each cut
	handler := &counter{handler: func(w http.ResponseWriter, r *http.Request) {
		sum, count, err := sumOf(r.Body)
		w.Header().Set("X-Upload", fmt.Sprint(sum, " ", count, " ", err))
		body := noise(2, size)
		for range size / part {
			_, _ = io.CopyN(w, body, part)
			w.(http.Flusher).Flush()
			select {
			case <-pause:
			case <-r.Context().Done():
				return
			}
		}
	}}
	ofWorker, ofPublisher := n.Door(), n.Door()
	n.Worker(handler, func(c *worker.Config) { c.NATS.URL = ofWorker.URL })
	client := n.Publisher(func(c *publisher.Config) { c.NATS.URL = ofPublisher.URL })
	waitForWorkers(t, n, 1)
	stop := cutEvery(t, time.Second, ofWorker, ofPublisher)
	defer stop()
	go func() {
		for range size / part {
			before := ofWorker.Made() + ofPublisher.Made()
			for ofWorker.Made()+ofPublisher.Made() == before && t.Context().Err() == nil {
				select {
				case <-time.After(10 * time.Millisecond):
				case <-t.Context().Done():
				}
			}
			select {
			case pause <- struct{}{}:
			case <-t.Context().Done():
				return
			}
		}
	}()
	resp, err := client.RoundTrip(newRequest(t, "POST", "/", io.MultiReader(noise(1, size))))
	relaytest.Must(t, err)
	defer resp.Body.Close()
	sum, count, err := sumOf(resp.Body)
	up, _, _ := sumOf(noise(1, size))
	down, _, _ := sumOf(noise(2, size))
	if err != nil || sum != down || count != size {
		t.Errorf("%d of %d bytes came down, %v", count, size, err)
	}
	if got := resp.Header.Get("X-Upload"); got != fmt.Sprint(up, " ", size, " <nil>") {
		t.Errorf("upload: %s", got)
	}
	handler.want(t, 1)
	if made := ofWorker.Made() + ofPublisher.Made(); made < 6 {
		t.Errorf("only %d connections were made: nothing was cut", made)
	}
}

// An upload that takes longer than the time limit, but goes on, is served; one that stands still is told as that it is too late.
func TestUploadLongerThanTheTimeLimit(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, size, " ", err)
	}), nil)
	client := n.Publisher(nil)
	const limit, pieces = 2 * time.Second, 15
	upload := func(pieces int, end func(*io.PipeWriter)) reply {
		in, out := io.Pipe()
		go func() {
			tick := time.NewTicker(limit / 10)
			defer tick.Stop()
			for range pieces {
				<-tick.C
				_, _ = out.Write([]byte("x"))
			}
			end(out)
		}()
		r := newRequest(t, "POST", "/", in)
		r.Header.Set("Obo-Timeout", fmt.Sprint(limit.Seconds()))
		return do(client, r)
	}
	begun := time.Now()
	got := upload(pieces, func(out *io.PipeWriter) { _ = out.Close() })
	if took := time.Since(begun); got.err != nil || got.body != fmt.Sprint(pieces, " <nil>") || took < limit*pieces/10 {
		t.Errorf("%q after %v: %v", got.body, took, got.err)
	}
	upload(1, func(*io.PipeWriter) {}).wantCode(t, relay.CodeTimeout)
}

// A handler that returns when its time is over has not replied: the caller is told of the timeout, and never gets the empty
// reply that a handler which says nothing otherwise makes.
func TestHandlerReturnsWhenItsTimeIsOver(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }), nil)
	client := n.Publisher(nil)
	each(100, func(int) {
		r := newRequest(t, "POST", "/", nil)
		r.Header.Set("Obo-Timeout", "0.05")
		do(client, r).wantCode(t, relay.CodeTimeout)
	})
}

// A handler that switches protocols, which nobody can have asked for, has not replied: no sidecar passes a 101 on.
func TestHandlerSwitchesProtocols(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusSwitchingProtocols) }), nil)
	client := n.Publisher(nil)
	send(t, client, "POST", "/").wantCode(t, relay.CodeHandlerFailed)
	server := sidecar(t, client)
	r := newRequest(t, "POST", "/", nil)
	r.URL.Host, r.Host = server.Listener.Addr().String(), ""
	if got := do(sidecarClient(t).Transport, r); got.StatusCode != relay.CodeHandlerFailed.Info().Status {
		t.Errorf("%s", got)
	}
}
