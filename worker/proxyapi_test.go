package worker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

const mePath = "/.obo/workspace/api/2.0/preview/scim/v2/Me"

func TestAPIAsThePerson(t *testing.T) {
	s := newStage(t, nil)
	for _, who := range []string{alice, bob} {
		a := s.call("GET", mePath+"?attributes=userName", s.token(who, sandbox.TokenOptions{}), "")
		if a.status != 200 || !strings.Contains(a.body, `"userName":"`+who+`"`) || strings.Contains(a.body, "groups") {
			t.Errorf("%+v", a)
		}
		if a.header.Get("X-Databricks-Request-Id") == "" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", a.header)
		}
	}
	// What the workspace answers is passed on, refusals too.
	a := s.call("GET", mePath, s.token(alice, sandbox.TokenOptions{Scopes: []string{"sql"}}), "")
	if a.status != 403 || !strings.Contains(a.body, "required scopes: iam.current-user:read") {
		t.Errorf("%+v", a)
	}
	s.onlyThePerson()
}

func TestAPIIsClosedUntilOpened(t *testing.T) {
	for prefixes, allowed := range map[string]string{
		"":                                   "",
		"/api/2.0/preview/scim/v2/Me":        "/api/2.0/preview/scim/v2/Me",
		"/api/2.0/preview/scim/v2/Me/":       "/api/2.0/preview/scim/v2/Me",
		"/api/2.0/preview /api/2.1":          "/api/2.0/preview/scim/v2/Me /api/2.0/preview/scim/v2/Mex",
		"/api":                               "/api/2.0/preview/scim/v2/Me /api/2.0/preview/scim/v2/Mex /api/2.0/previewx /api/2.0/sql%2Dx",
		"/api/2.0/preview/scim/v2/M /api/2.": "",
	} {
		s := newStage(t, func(_ *sandbox.Config, c *worker.RoutesConfig) { c.API = strings.Fields(prefixes) })
		token := s.token(alice, sandbox.TokenOptions{})
		for _, path := range []string{"/api/2.0/preview/scim/v2/Me", "/api/2.0/preview/scim/v2/Mex", "/api/2.0/previewx", "/api/2.0/sql%2Dx", "/api/2.0/%70review/scim/v2/Me", "/api/2.0/preview/scim/v2/Me/..;/..;/..;/..;/sql"} {
			before := s.ws.Calls().Count()
			a := s.call("GET", "/.obo/workspace"+path, token, "")
			called := s.ws.Calls().Count() > before
			want := false
			for p := range strings.FieldsSeq(allowed) {
				want = want || p == path
			}
			if prefixes == "/api" {
				want = !strings.Contains(path, ";")
			}
			if called != want || !want && a.code(t) != relay.CodeForbidden {
				t.Errorf("%q: %s called %v, want %v: %+v", prefixes, path, called, want, a)
			}
		}
		s.onlyThePerson()
	}
}

// seen is a workspace that keeps the last request and answers as told.
type seen struct {
	*httptest.Server
	requests chan *http.Request
	bodies   chan string
}

func newSeen(t *testing.T, answer http.HandlerFunc) *seen {
	t.Helper()
	s := &seen{requests: make(chan *http.Request, 100), bodies: make(chan string, 100)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.requests <- r.Clone(context.Background())
		s.bodies <- string(body)
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *seen) stage(t *testing.T, change func(*worker.RoutesConfig)) *stage {
	t.Helper()
	cfg := worker.RoutesConfig{API: []string{"/api"}, Warehouse: "w1"}
	if change != nil {
		change(&cfg)
	}
	return newStageOn(t, s.URL, nil, &logBuffer{}, cfg)
}

func jwt(name string) string { return relaytest.Token(name, time.Now().Add(time.Hour)) }

func TestAPIHeaders(t *testing.T) {
	ws := newSeen(t, func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range map[string]string{
			"Set-Cookie": "a=b", "Keep-Alive": "x", "Proxy-Authenticate": "x", "Connection": "X-Hop", "X-Hop": "1", "Alt-Svc": "x", "Obo-Id": "x",
			"X-Kept": "1", "Etag": `"1"`, "Content-Type": "application/json",
		} {
			w.Header().Set(name, value)
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "{}")
	})
	s := ws.stage(t, nil)
	token := jwt("alice")
	a := s.call("PUT", "/.obo/workspace/api/2.0/x/a%20b?q=1;2&%zz", token, "hello", "Content-Type", "text/x", "Accept", "a/b", "Range", "bytes=0-1",
		"Cookie", "c=1", "X-Databricks-Azure-SP-Management-Token", "robot", "X-Databricks-Org-Id", "1", "X-Forwarded-User", "root", "Origin", "http://evil",
		"Authorization", "Bearer "+token, "X-HTTP-Method-Override", "DELETE", "X-Custom", "1", "Idempotency-Key", "k")
	if a.err != nil {
		t.Fatal(a.err)
	}
	r := <-ws.requests
	if r.Method != "PUT" || r.RequestURI != "/api/2.0/x/a%20b?q=1;2&%zz" || <-ws.bodies != "hello" || r.ContentLength != 5 {
		t.Errorf("%s %s %d", r.Method, r.RequestURI, r.ContentLength)
	}
	got := fmt.Sprint(r.Header)
	want := fmt.Sprint(http.Header{
		"Accept": {"a/b"}, "Accept-Encoding": {"gzip"}, "Authorization": {"Bearer " + token}, "Content-Length": {"5"}, "Content-Type": {"text/x"},
		"Idempotency-Key": {"k"}, "Range": {"bytes=0-1"}, "User-Agent": {"obo-worker"},
	})
	if got = strings.Replace(got, "Accept-Encoding:[gzip] ", "", 1); got != strings.Replace(want, "Accept-Encoding:[gzip] ", "", 1) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, name := range []string{"Set-Cookie", "Keep-Alive", "Proxy-Authenticate", "X-Hop", "Alt-Svc", "Obo-Id"} {
		if a.header.Get(name) != "" && name != "Obo-Id" || a.header.Get(name) == "x" {
			t.Errorf("%s came back", name)
		}
	}
	if a.status != 201 || a.header.Get("X-Kept") != "1" || a.header.Get("Etag") != `"1"` || a.body != "{}" {
		t.Errorf("%+v", a)
	}
}

func TestAPIFaults(t *testing.T) {
	page := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html>")
		}
	}
	to := func(location string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, location, http.StatusFound) }
	}
	reset := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := http.NewResponseController(w).Hijack()
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	}
	for name, c := range map[string]struct {
		answer    http.HandlerFunc
		get, post relay.Code
		passed    int
	}{
		"sign-in":       {answer: to("/login.html"), get: relay.CodeTokenRejected, post: relay.CodeTokenRejected},
		"elsewhere":     {answer: to("https://evil.example/steal"), get: relay.CodeWorkspaceFailed, post: relay.CodeWorkspaceFailed},
		"a page":        {answer: page(200), get: relay.CodeWorkspaceFailed, post: relay.CodeWorkspaceFailed},
		"a page of 403": {answer: page(403), passed: 403},
		"reset":         {answer: reset, get: relay.CodeWorkspaceFailed, post: relay.CodeWorkspaceFailed},
		"not modified":  {answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, passed: 304},
		"429 is the API's": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(429)
		}, passed: 429},
	} {
		ws := newSeen(t, c.answer)
		s := ws.stage(t, nil)
		for method, code := range map[string]relay.Code{"GET": c.get, "POST": c.post} {
			for len(ws.requests) > 0 {
				<-ws.requests
			}
			a := s.call(method, "/.obo/workspace/api/2.0/x", jwt("alice"), "")
			if a.code(t) != code || a.status != c.passed {
				t.Errorf("%s %s: %+v, want %s", name, method, a, code)
			}
			if n := len(ws.requests); method == "POST" && n != 1 {
				t.Errorf("%s: POST arrived %d times", name, n)
			}
		}
	}
	// Nobody there: nothing was started, and another worker may try.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(t, err)
	address := l.Addr().String()
	relaytest.Must(t, l.Close())
	s := newStageOn(t, "http://"+address, nil, &logBuffer{}, worker.RoutesConfig{API: []string{"/api"}, Warehouse: "w1"})
	for _, path := range []string{"/.obo/workspace/api/2.0/x", "/.obo/sql", "/.obo/me"} {
		method, body := "POST", statement("SELECT 1")
		if path == "/.obo/me" {
			method, body = "GET", ""
		}
		if a := s.call(method, path, jwt("alice"), body); !errors.Is(a.err, relay.CodeWorkspaceDown) {
			t.Errorf("%s: %+v", path, a)
		}
	}
}

// A GET is tried again in a burst, anything else is not.
func TestAPIBurst(t *testing.T) {
	for method, want := range map[string]int{"GET": 200, "DELETE": 503} {
		s := newStage(t, nil)
		s.ws.Faults.Add(sandbox.Fault{Path: "/api", Status: 503, Times: 2})
		if a := s.call(method, mePath, s.token(alice, sandbox.TokenOptions{}), ""); a.status != want {
			t.Errorf("%s: %+v", method, a)
		}
		s.onlyThePerson()
	}
}

// Bodies are streamed both ways: the answer begins before the request has ended.
func TestAPIStreams(t *testing.T) {
	const size = 8 << 20
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(flushing{w}, r.Body)
	}))
	t.Cleanup(server.Close)
	s := newStageOn(t, server.URL, nil, &logBuffer{}, worker.RoutesConfig{API: []string{"/api"}})
	in, out := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+relaytest.Service+"/.obo/workspace/api/2.0/echo", in)
	relaytest.Must(t, err)
	r.Header.Set(relay.HeaderAccessToken, jwt("alice"))
	go func() { _, _ = io.WriteString(out, "first") }()
	resp, err := s.client.Do(r)
	relaytest.Must(t, err)
	defer resp.Body.Close()
	got := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "first" {
		t.Fatalf("%q %v", got, err)
	}
	block := bytes.Repeat([]byte("x"), 64<<10)
	go func() {
		for range size / len(block) {
			_, _ = out.Write(block)
		}
		_ = out.Close()
	}()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || n != size {
		t.Errorf("%d bytes, %v", n, err)
	}
}

type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	_ = http.NewResponseController(f.w).Flush()
	return n, err
}

// An answer that breaks off is not taken for whole.
func TestAPIAnswerBreaksOff(t *testing.T) {
	ws := newSeen(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("x"), 100<<10))
		panic(http.ErrAbortHandler)
	})
	a := ws.stage(t, nil).call("GET", "/.obo/workspace/api/2.0/x", jwt("alice"), "")
	if !errors.Is(a.err, relay.CodeWorkspaceFailed) {
		t.Errorf("%v after %d bytes", a.err, len(a.body))
	}
}
