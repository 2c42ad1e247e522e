package relaytest_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// forwardTo is the worker's forward handler to an app.
func forwardTo(t *testing.T, address string) http.Handler {
	t.Helper()
	u, err := url.Parse(address)
	relaytest.Must(t, err)
	h, err := worker.Forward(u, slog.New(slog.DiscardHandler))
	relaytest.Must(t, err)
	return h
}

// rawUpstream is an app that answers the first request of each connection by hand.
func rawUpstream(t *testing.T, answer func(net.Conn, *http.Request)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				answer(conn, r)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String()
}

// Nothing listens where the middleware app should: 502 for the caller, who also learns that nothing was started.
func TestUpstreamDown(t *testing.T) {
	n, _ := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(t, err)
	relaytest.Must(t, l.Close()) // a free port
	n.Worker(forwardTo(t, "http://"+l.Addr().String()), nil)
	got := send(t, n.Publisher(nil), "POST", "/")
	got.wantCode(t, relay.CodeUpstreamDown, "nothing answers at the middleware app's address", "Start the app, or correct the worker's --forward URL")
	if info := relay.CodeUpstreamDown.Info(); info.Status != 502 || info.Outcome != relay.NotStarted {
		t.Errorf("%+v", info)
	}
}

// With another worker whose app is up nobody notices, whatever the method: nothing was started.
func TestUpstreamDownElsewhereUp(t *testing.T) {
	n, _ := start(t)
	client := n.Publisher(nil)
	send(t, client, "POST", "/").wantCode(t, relay.CodeNoWorker)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(t, err)
	relaytest.Must(t, l.Close())
	n.Worker(forwardTo(t, "http://"+l.Addr().String()), nil)
	app := httptest.NewServer(says("hello"))
	t.Cleanup(app.Close)
	n.Worker(forwardTo(t, app.URL), nil)
	waitForWorkers(t, n, 2)
	for i := range 20 {
		r := newRequest(t, "POST", "/", nil)
		r.Header.Set("X-Forwarded-Access-Token", relaytest.Token(fmt.Sprint("person", i), tomorrow()))
		do(client, r).want(t, 200, "hello")
	}
}

// An app that is too slow: 504 at the time limit, and it learns that nobody waits any more.
func TestUpstreamSlow(t *testing.T) {
	n, _ := start(t)
	left := make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(left)
	}))
	t.Cleanup(app.Close)
	n.Worker(forwardTo(t, app.URL), nil)
	client := n.Publisher(nil)
	r := newRequest(t, "POST", "/", nil)
	r.Header.Set("Obo-Timeout", "0.3")
	do(client, r).wantCode(t, relay.CodeTimeout, "no answer from the service within 300ms", "may still have been executed")
	relaytest.Recv(t, left, "the app to see that the caller left")
	if relay.CodeTimeout.Info().Status != 504 {
		t.Error("not 504")
	}
}

// An app that breaks off: before it answers it may have acted; after, the caller gets an error and never a short body that
// looks whole.
func TestUpstreamBreaksOff(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		code         relay.Code // empty: the head arrives, the body does not
	}{
		{"without a word", "", relay.CodeUpstreamFailed},
		{"in the head", "HTTP/1.1 200 OK\r\nContent-Le", relay.CodeUpstreamFailed},
		{"not HTTP", "hello\r\n\r\n", relay.CodeUpstreamFailed},
		{"small body, length", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", ""},
		{"large body, length", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 200_000), ""},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", ""},
		{"large chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n" + strings.Repeat("x", 200_000), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, _ := start(t)
			n.Worker(forwardTo(t, rawUpstream(t, func(conn net.Conn, _ *http.Request) { _, _ = io.WriteString(conn, c.answer) })), nil)
			client := n.Publisher(nil)
			got := send(t, client, "POST", "/")
			if c.code != "" {
				got.wantCode(t, c.code, "it may have acted on the request")
				return
			}
			if got.err == nil {
				t.Errorf("a body of %d bytes looks whole", len(got.body))
			} else {
				got.wantCode(t, relay.CodeUpstreamFailed, "it may have acted on the request")
			}
			// The same through the sidecar, whose only way to say so is to break the connection.
			server := sidecar(t, client)
			r := newRequest(t, "POST", "/", nil)
			r.URL.Host, r.Host = server.Listener.Addr().String(), ""
			if got := do(sidecarClient(t).Transport, r); got.err == nil && got.StatusCode == 200 {
				t.Errorf("sidecar: a body of %d bytes looks whole", len(got.body))
			}
		})
	}
}

// The log warns of an app that breaks off in the middle of its reply, with the request's id, and not of a caller who leaves.
func TestWhoBreaksOffIsInTheLog(t *testing.T) {
	n, log := start(t)
	leave, left := make(chan struct{}), make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		relaytest.Must(t, http.NewResponseController(w).Flush())
		if r.URL.Path == "/breaks" {
			panic(http.ErrAbortHandler)
		}
		close(leave)
		<-r.Context().Done()
		close(left)
	}))
	t.Cleanup(app.Close)
	u, err := url.Parse(app.URL)
	relaytest.Must(t, err)
	h, err := worker.Forward(u, textLog(log))
	relaytest.Must(t, err)
	n.Worker(h, nil)
	client := n.Publisher(nil)
	resp, err := client.RoundTrip(newRequest(t, "GET", "/", nil))
	relaytest.Must(t, err)
	relaytest.Recv(t, leave, "the beginning of the reply")
	relaytest.Must(t, resp.Body.Close())
	relaytest.Recv(t, left, "the app to see that the caller left")
	log.Wait(t, "msg=request", resp.Header.Get("Obo-Id"), "code=canceled")
	if strings.Contains(log.String(), "level=WARN") {
		t.Errorf("a warning for a caller who left:\n%s", log)
	}
	broken := send(t, client, "GET", "/breaks")
	log.Wait(t, "level=WARN", "the handler broke off its reply", broken.Header.Get("Obo-Id"))
}

// A handler that panics: 500, and neither caller nor log get what it panicked with. After the head the body breaks off.
func TestHandlerPanics(t *testing.T) {
	n, log := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			_, _ = io.WriteString(w, "first")
			w.(http.Flusher).Flush()
		}
		if r.URL.Path == "/runtime" {
			_ = []int{}[len(r.URL.RawQuery)] // out of range, a panic of the runtime's own
		}
		panic("secret " + r.Header.Get("X-Forwarded-Access-Token"))
	}), nil)
	client := n.Publisher(nil)
	got := send(t, client, "POST", "/")
	got.wantCode(t, relay.CodeHandlerFailed, "Look at the worker's log for the request id")
	log.Wait(t, "the handler panicked", got.err.(*relay.Error).RequestID, "panic=string")
	send(t, client, "POST", "/runtime").wantCode(t, relay.CodeHandlerFailed)
	log.Wait(t, "the handler panicked", "index out of range")
	if late := send(t, client, "POST", "/late"); late.err == nil || late.StatusCode != 200 {
		t.Errorf("%s", late)
	}
	if strings.Contains(log.String(), "CANARY") || strings.Contains(log.String(), "secret") {
		t.Error("what the handler panicked with is in the log")
	}
	send(t, client, "POST", "/").wantCode(t, relay.CodeHandlerFailed) // the worker lives
}

// A handler that ends its goroutine has not ended its reply: nothing of it looks whole, and the request is over for the
// worker, which goes on.
func TestHandlerEndsItsGoroutine(t *testing.T) {
	n, log := start(t)
	w, stop := n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first")
		switch r.URL.Path {
		case "/late":
			w.(http.Flusher).Flush()
			fallthrough
		case "/early":
			runtime.Goexit()
		}
	}), nil)
	client := n.Publisher(nil)
	got := send(t, client, "POST", "/early")
	got.wantCode(t, relay.CodeHandlerFailed)
	log.Wait(t, "the handler panicked", got.err.(*relay.Error).RequestID, "panic=runtime.Goexit")
	if late := send(t, client, "POST", "/late"); late.err == nil || late.StatusCode != 200 {
		t.Errorf("%s", late)
	}
	send(t, client, "POST", "/").want(t, 200, "first")
	stop() // which waits for requests under way
	if s := w.Stats(); s.InFlight != 0 {
		t.Errorf("%d requests are under way for ever", s.InFlight)
	}
	log.Wait(t, "msg=request", got.err.(*relay.Error).RequestID, "code=handler_failed")
}

// Redirects are the caller's business: the worker does not follow them, least of all with the token.
func TestUpstreamRedirects(t *testing.T) {
	n, _ := start(t)
	thief := &counter{}
	other := httptest.NewServer(thief)
	t.Cleanup(other.Close)
	app := httptest.NewServer(http.RedirectHandler(other.URL+"/steal", http.StatusFound))
	t.Cleanup(app.Close)
	n.Worker(forwardTo(t, app.URL), nil)
	got := send(t, n.Publisher(nil), "GET", "/")
	if got.err != nil || got.StatusCode != 302 || got.Header.Get("Location") != other.URL+"/steal" {
		t.Errorf("%s", got)
	}
	thief.want(t, 0)
}

// The app's own address is another place where the caller is: FastAPI redirects to it for the sake of a slash.
func TestUpstreamRedirectsToItself(t *testing.T) {
	n, _ := start(t)
	location := map[string]string{}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", location[r.URL.Path])
		w.WriteHeader(http.StatusTemporaryRedirect)
	}))
	t.Cleanup(app.Close)
	n.Worker(forwardTo(t, app.URL), nil)
	client := n.Publisher(nil)
	want := map[string]string{
		"/slash":  "/slash/?x=1#y",
		"/upper":  "/upper/",
		"/root":   "/",
		"/query":  "/?x=1",
		"/double": app.URL + "//example.com/", // a path of it alone would lead to example.com
		"/back":   app.URL + `/\example.com/`, // for browsers the same
		"/tab":    app.URL + "/\t/example.com/",
		"/user":   app.URL + "@example.com/",
		"/longer": app.URL + "0/", // another port
		"/path":   "/elsewhere",
	}
	maps.Copy(location, want)
	location["/slash"] = app.URL + want["/slash"]
	location["/upper"] = strings.ToUpper(app.URL) + want["/upper"]
	location["/root"] = app.URL
	location["/query"] = app.URL + "?x=1"
	for path, to := range want {
		if got := send(t, client, "GET", path); got.err != nil || got.Header.Get("Location") != to {
			t.Errorf("%s leads to %q, want %q; %s", path, got.Header.Get("Location"), to, got)
		}
	}
}

// What stands in a request reaches the app as a person's browser would have sent it, and nothing steers it elsewhere.
func TestForward(t *testing.T) {
	n, _ := start(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Trailer", r.Trailer.Get("X-Sum"))
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %d %s", r.Method, r.RequestURI, r.Host, len(r.Header.Get("X-Forwarded-Access-Token")), body)
	}))
	t.Cleanup(app.Close)
	n.Worker(forwardTo(t, app.URL), nil)
	r := newRequest(t, "PATCH", "/a/b?x=1;2&y=%zz", io.MultiReader(strings.NewReader("body")))
	r.Host = "evil.example"
	r.Trailer = http.Header{"X-Sum": {"7"}}
	got := do(n.Publisher(nil), r)
	got.want(t, http.StatusTeapot, fmt.Sprintf("PATCH /a/b?x=1;2&y=%%zz %s %d body", strings.TrimPrefix(app.URL, "http://"), len(alice())))
	if got.Header.Get("X-Trailer") != "7" {
		t.Error("the request's trailer did not arrive")
	}
}
