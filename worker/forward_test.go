package worker

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

func testForward(t *testing.T, address string, wrap ...func(http.RoundTripper) http.RoundTripper) http.Handler {
	t.Helper()
	base, err := url.Parse("http://" + address)
	must(t, err)
	h, err := Forward(base, slog.New(slog.DiscardHandler), wrap...)
	must(t, err)
	return h
}

// leavesAtTheSecond is a server that answers one request, takes a second one on the same connection, and is gone.
func leavesAtTheSecond(t *testing.T) (address string, executed <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	took := make(chan error, 1)
	go func() {
		defer close(took)
		defer l.Close()
		conn, err := l.Accept()
		if err != nil {
			took <- err
			return
		}
		defer conn.Close()
		defer l.Close() // before the connection
		in := bufio.NewReader(conn)
		for i := range 2 {
			if _, err := http.ReadRequest(in); err != nil {
				took <- err
				return
			}
			if i == 0 {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String(), took
}

// net/http's client sends some requests again on its own. If the app took the first one and is gone then, that nothing
// answers at its address proves nothing.
func TestRequestSentTwiceIsNotCalledNotStarted(t *testing.T) {
	for name, r := range map[string]*http.Request{
		"safe":            httptest.NewRequest("GET", "/", nil),
		"idempotency key": httptest.NewRequest("POST", "/", nil),
	} {
		t.Run(name, func(t *testing.T) {
			address, executed := leavesAtTheSecond(t)
			h := testForward(t, address)
			first := httptest.NewRecorder()
			h.ServeHTTP(first, httptest.NewRequest("GET", "/", nil))
			if first.Code != http.StatusOK {
				t.Fatalf("%d %s", first.Code, first.Body)
			}
			r.Header.Set(relay.HeaderIdempotencyKey, "1")
			got := httptest.NewRecorder()
			h.ServeHTTP(got, r)
			if err := <-executed; err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got.Body.String(), string(relay.CodeUpstreamFailed)) {
				t.Errorf("an executed request is answered %d %s", got.Code, got.Body)
			}
			again := httptest.NewRecorder()
			h.ServeHTTP(again, httptest.NewRequest("GET", "/", nil))
			if !strings.Contains(again.Body.String(), string(relay.CodeUpstreamDown)) {
				t.Errorf("without an app: %d %s", again.Code, again.Body)
			}
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A transport may read the body after it has answered, and so after Forward has returned, when what is around Forward may
// read it too.
func TestForwardedBodyIsTheTransportsOwn(t *testing.T) {
	read := make(chan string, 1)
	h := testForward(t, "127.0.0.1:1", func(http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			go func() {
				b, _ := io.ReadAll(r.Body)
				read <- string(b)
			}()
			return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody}, nil
		})
	})
	r := httptest.NewRequest("POST", "/", nil)
	r.Body, r.ContentLength = newWholeBody([]byte("body")), 4
	h.ServeHTTP(httptest.NewRecorder(), r)
	_, _ = io.Copy(io.Discard, r.Body)
	if got := <-read; got != "body" {
		t.Errorf("the app got %q", got)
	}
}

// net/http's client sends a POST with an Idempotency-Key again on its own. If the workspace took the first one and is gone
// then, it may have acted on it.
func TestCallSentTwiceMayHaveActed(t *testing.T) {
	address, executed := leavesAtTheSecond(t)
	w, err := NewWorkspace(WorkspaceConfig{Host: "http://" + address})
	must(t, err)
	t.Cleanup(w.Close)
	call := func(method string) (*relay.Error, bool) {
		t.Helper()
		resp, err := w.do(t.Context(), aliceToken(t), method, "/api/2.0/x", http.Header{relay.HeaderIdempotencyKey: {"1"}}, nil, 0)
		if err != nil {
			return callError(t.Context(), aliceToken(t), err)
		}
		discard(resp)
		return nil, false
	}
	if e, _ := call("GET"); e != nil {
		t.Fatal(e)
	}
	if e, acted := call("POST"); e == nil || !acted {
		t.Errorf("%v, acted %v", e, acted)
	}
	must(t, <-executed)
	if e, acted := call("POST"); e == nil || acted || e.Code != relay.CodeWorkspaceDown {
		t.Errorf("without a workspace: %v, acted %v", e, acted)
	}
}
