package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// stage is a front door with an app behind it.
type stage struct {
	t       *testing.T
	front   *Front
	address string
	people  *directory
	kept    *keptRecords
	log     *lockedBuffer
	stop    func()

	mu   sync.Mutex
	seen []*http.Request // by the app
}

func (s *stage) requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.seen = nil }()
	return s.seen
}

// newStage starts an app, and a worker's front door before it. A nil app echoes.
func newStage(t *testing.T, policy *Policy, app http.HandlerFunc, change func(*Worker)) *stage {
	t.Helper()
	s := &stage{t: t, people: newDirectory("analysts"), kept: &keptRecords{}, log: &lockedBuffer{}}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.seen = append(s.seen, r.Clone(context.Background()))
		s.mu.Unlock()
		if app != nil {
			app(w, r)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(upstream.Close)
	cfg := Config{
		Service: "middleware", Policy: policy, Lookup: s.people, Log: slog.New(slog.NewTextHandler(s.log, nil)),
		IdentityHeaders: DefaultIdentityHeaders(), DrainTimeout: 5 * time.Second, Now: time.Now,
	}
	w := &Worker{cfg: cfg, log: cfg.Log, instance: relay.NewInstance(), gate: newGate(cfg)}
	w.audit = &auditTrail{to: s.kept, log: cfg.Log, service: cfg.Service, instance: w.instance}
	if change != nil {
		change(w)
	}
	base, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	if s.front, err = NewFront(w, base); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.front.Serve(ctx, l) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// send writes a request as it stands here, so that no client corrects it, and reads one response.
func (s *stage) send(lines ...string) (*http.Response, string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	method, _, _ := strings.Cut(lines[0], " ")
	text := strings.Join(lines, "\r\n")
	if !strings.Contains(text, "\r\n\r\n") {
		text += "\r\nConnection: close\r\n\r\n"
	}
	if _, err := io.WriteString(conn, text); err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(body)
}

func (s *stage) asAlice(line string, more ...string) (*http.Response, string) {
	s.t.Helper()
	return s.send(append([]string{line + " HTTP/1.1", "Host: app.example.com", "X-Forwarded-Access-Token: " + aliceToken(s.t).Reveal()}, more...)...)
}

// record waits for the one audit record of the last request, which comes after its reply.
func (s *stage) record() AuditRecord {
	s.t.Helper()
	s.front.serving.Wait()
	got := s.kept.take()
	if len(got) != 1 {
		s.t.Fatalf("%d audit records: %+v", len(got), got)
	}
	return got[0]
}

func problem(t *testing.T, resp *http.Response, body string) relay.Problem {
	t.Helper()
	var p relay.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || resp.Header.Get("Content-Type") != "application/problem+json" || p.Status != resp.StatusCode {
		t.Fatalf("%s, %s: %s, %v", resp.Status, resp.Header.Get("Content-Type"), body, err)
	}
	return p
}

func TestFrontPassesARequestOn(t *testing.T) {
	s := newStage(t, rules(t, "POST /reports/ = analysts"), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-App", "1")
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.Copy(w, r.Body)
	}, nil)
	resp, body := s.asAlice("POST /reports/a%20b?q=1;2&x=%zz", "X-Request-Id: mine-1", "Cookie: a=b", "X-Forwarded-Host: app.example.com",
		"X-Forwarded-Proto: https", "X-Real-Ip: 203.0.113.7", "Content-Length: 5", "Connection: close", "", "hello")
	if resp.StatusCode != http.StatusTeapot || body != "hello" || resp.Header.Get("X-App") != "1" {
		t.Errorf("got %s, %q", resp.Status, body)
	}
	r := s.requests()[0]
	if r.RequestURI != "/reports/a%20b?q=1;2&x=%zz" || r.Host != "app.example.com" || r.Method != "POST" {
		t.Errorf("the app got %s %s of %s", r.Method, r.RequestURI, r.Host)
	}
	want := map[string]string{
		"X-Forwarded-Access-Token": aliceToken(t).Reveal(), "X-Forwarded-Email": "alice@example.com", "X-Forwarded-User": "7",
		"X-Forwarded-Preferred-Username": "alice@example.com", "X-Forwarded-Host": "app.example.com", "X-Forwarded-Proto": "https",
		"X-Real-Ip": "203.0.113.7", "X-Request-Id": "mine-1", "Cookie": "a=b", "Content-Length": "5",
	}
	got := map[string]string{}
	for name, values := range r.Header {
		got[name] = strings.Join(values, "|")
	}
	delete(want, "X-Forwarded-Access-Token") // an hour from another now
	if token := got["X-Forwarded-Access-Token"]; len(token) < 20 {
		t.Error("the app has no token")
	}
	delete(got, "X-Forwarded-Access-Token")
	if !maps.Equal(got, want) {
		t.Errorf("the app got\n%v, want\n%v", got, want)
	}
	a := s.record()
	if a.Via != AuditFront || a.App != "" || a.Decision != AuditAllowed || a.Rule != "POST /reports/" || a.Status != http.StatusTeapot || a.BytesIn != 5 || a.BytesOut != 5 ||
		a.Path != "/reports/a%20b" || a.User.Name != "alice@example.com" || a.Code != "" {
		t.Errorf("audit: %+v", a)
	}
	if log := s.log.take(); strings.Contains(log, "q=1") || strings.Contains(log, aliceToken(t).Reveal()[:40]) {
		t.Errorf("logged %s", log)
	}
}

func TestFrontRefuses(t *testing.T) {
	s := newStage(t, rules(t, "/ = analysts", "/admin = admins", "POST /form = deny"), nil, nil)
	const host = "Host: app.example.com"
	token := "X-Forwarded-Access-Token: " + aliceToken(t).Reveal()
	tests := map[string]struct {
		lines []string
		code  relay.Code
	}{
		"no token":                  {[]string{"GET / HTTP/1.1", host}, relay.CodeTokenMissing},
		"a bearer is no token":      {[]string{"GET / HTTP/1.1", host, "Authorization: Bearer " + aliceToken(t).Reveal()}, relay.CodeTokenMissing},
		"other spellings are none":  {[]string{"GET / HTTP/1.1", host, "X_Forwarded_Access_Token: " + aliceToken(t).Reveal()}, relay.CodeTokenMissing},
		"identity without a token":  {[]string{"GET / HTTP/1.1", host, "X-Forwarded-Email: alice@example.com", "X-Forwarded-User: 7"}, relay.CodeTokenMissing},
		"empty":                     {[]string{"GET / HTTP/1.1", host, "X-Forwarded-Access-Token: "}, relay.CodeTokenMissing},
		"two tokens":                {[]string{"GET / HTTP/1.1", host, token, token}, relay.CodeTokenAmbiguous},
		"a list of tokens":          {[]string{"GET / HTTP/1.1", host, token + ", " + aliceToken(t).Reveal()}, relay.CodeTokenMalformed},
		"opaque":                    {[]string{"GET / HTTP/1.1", host, "X-Forwarded-Access-Token: dapi0123456789abcdef"}, relay.CodeTokenOpaque},
		"expired":                   {[]string{"GET / HTTP/1.1", host, "X-Forwarded-Access-Token: " + testJWT("a", time.Now().Add(-time.Hour))}, relay.CodeTokenExpired},
		"token named in Connection": {[]string{"GET /admin HTTP/1.1", host, token, "Connection: close, X-Forwarded-Access-Token, X-Forwarded-Email", "", ""}, relay.CodeForbidden},
		"not a group's":             {[]string{"GET /admin HTTP/1.1", host, token}, relay.CodeForbidden},
		"encoded":                   {[]string{"GET /%61dmin HTTP/1.1", host, token}, relay.CodeForbidden},
		"slash":                     {[]string{"GET /admin/ HTTP/1.1", host, token}, relay.CodeForbidden},
		"dots":                      {[]string{"GET /x/../admin HTTP/1.1", host, token}, relay.CodePathNotCanonical},
		"encoded dots":              {[]string{"GET /x/%2e%2e/admin HTTP/1.1", host, token}, relay.CodePathNotCanonical},
		"encoded slash":             {[]string{"GET /x%2f..%2fadmin HTTP/1.1", host, token}, relay.CodePathNotCanonical},
		"double slash":              {[]string{"GET //admin HTTP/1.1", host, token}, relay.CodePathNotCanonical},
		"backslash":                 {[]string{`GET /x\..\admin HTTP/1.1`, host, token}, relay.CodePathNotCanonical},
		"semicolon":                 {[]string{"GET /admin;a=b HTTP/1.1", host, token}, relay.CodeForbidden},
		"absolute form":             {[]string{"GET http://app.example.com/admin HTTP/1.1", host, token}, relay.CodeBadRequest},
		"absolute form, elsewhere":  {[]string{"GET http://169.254.169.254/x HTTP/1.1", host, token}, relay.CodeBadRequest},
		"asterisk":                  {[]string{"OPTIONS * HTTP/1.1", host, token}, relay.CodeBadRequest},
		"CONNECT":                   {[]string{"CONNECT app.example.com:443 HTTP/1.1", host, token}, relay.CodeBadRequest},
		"a method in small letters": {[]string{"post /form HTTP/1.1", host, token}, relay.CodeForbidden},
		"a denied method":           {[]string{"POST /form HTTP/1.1", host, token}, relay.CodeForbidden},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			resp, body := s.send(test.lines...)
			p := problem(t, resp, body)
			if p.Code != test.code || p.Status != test.code.Info().Status || p.RequestID == "" || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("got %s %+v", resp.Status, p)
			}
			if n := len(s.requests()); n != 0 {
				t.Errorf("%d requests reached the app", n)
			}
			a := s.record()
			denied := test.code == relay.CodeForbidden
			if a.Code != test.code || a.Status != p.Status || a.RequestID != p.RequestID || (a.Decision == AuditDenied) != denied || a.Decision == AuditAllowed {
				t.Errorf("audit: %+v", a)
			}
		})
	}
	if log := s.log.take(); strings.Contains(log, aliceToken(t).Reveal()[:40]) || strings.Contains(log, "dapi") {
		t.Errorf("a token is logged: %s", log)
	}
}

func TestFrontTellsOfTheApp(t *testing.T) {
	s := newStage(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	}, func(w *Worker) { w.cfg.MaxBody = 10 })
	resp, body := s.asAlice("GET /a")
	if p := problem(t, resp, body); p.Code != relay.CodeUpstreamFailed || s.record().Code != relay.CodeUpstreamFailed {
		t.Errorf("got %+v", p)
	}
	resp, body = s.asAlice("POST /a", "Content-Length: 11", "Connection: close", "", "hello world")
	if p := problem(t, resp, body); p.Code != relay.CodeBodyTooLarge || s.record().Decision != AuditRefused {
		t.Errorf("got %+v", p)
	}
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /half HTTP/1.1\r\nHost: a\r\nX-Forwarded-Access-Token: "+aliceToken(t).Reveal()+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn) // until the front door breaks it off too
	if a := s.record(); a.Status != http.StatusOK || a.BytesOut != 4 {
		t.Errorf("a broken reply is not audited: %+v", a)
	}
}

// Who left, and who was sent away, is no fault of the app's.
func TestFrontTellsWhoLeft(t *testing.T) {
	for name, c := range map[string]struct {
		leave func(*stage, net.Conn)
		code  relay.Code
	}{
		"the caller":     {func(_ *stage, conn net.Conn) { _ = conn.Close() }, relay.CodeCanceled},
		"the front door": {func(s *stage, _ net.Conn) { s.stop() }, relay.CodeHandlerFailed},
	} {
		t.Run(name, func(t *testing.T) {
			begun := make(chan struct{})
			s := newStage(t, nil, func(_ http.ResponseWriter, r *http.Request) {
				close(begun)
				<-r.Context().Done()
			}, func(w *Worker) { w.cfg.DrainTimeout = time.Millisecond })
			conn, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET /a HTTP/1.1\r\nHost: a\r\nX-Forwarded-Access-Token: "+aliceToken(t).Reveal()+"\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			<-begun
			c.leave(s, conn)
			if a := s.record(); a.Code != c.code {
				t.Errorf("audited as %s, want %s", a.Code, c.code)
			}
		})
	}
}

func TestFrontAuditRequired(t *testing.T) {
	s := newStage(t, nil, nil, func(w *Worker) { w.audit.required = true })
	s.kept.fail(io.ErrShortWrite)
	resp, body := s.asAlice("GET /a")
	if p := problem(t, resp, body); p.Code != relay.CodeAuditDown || len(s.requests()) != 0 {
		t.Errorf("served unaudited: %+v", p)
	}
	s.front.serving.Wait()
	if log := s.log.take(); !strings.Contains(log, "REFUSED") || !strings.Contains(log, "AUDIT RECORD LOST") {
		t.Errorf("logged %s", log)
	}
}

func TestNewFrontRefuses(t *testing.T) {
	w := &Worker{log: slog.New(slog.DiscardHandler), cfg: Config{Lookup: newDirectory()}}
	for base, want := range map[string]string{
		"http://10.0.0.1:8001": "not on loopback", "http://example.com": "not on loopback", "http://127.0.0.1.example.com": "not on loopback", "http://0.0.0.0:8001": "not on loopback",
		"ftp://127.0.0.1": "--forward", "http://127.0.0.1:8001/x": "--forward", "http://127.0.0.1:8001": "", "http://localhost:8001": "", "http://[::1]:8001": "",
	} {
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewFront(w, u); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v", base, err)
		}
	}
	u, _ := url.Parse("http://127.0.0.1:8001")
	w.cfg.Lookup = nil
	if _, err := NewFront(w, u); err == nil || !strings.Contains(err.Error(), "--user-lookup=on") {
		t.Errorf("got %v", err)
	}
}

// The policy judges the path that the app gets: net/http writes one with certain characters anew, and then an encoded
// semicolon comes out as a plain one.
func TestFrontJudgesThePathThatIsForwarded(t *testing.T) {
	s := newStage(t, rules(t, "/ = analysts", "/admin/ = admins"), nil, nil)
	for _, c := range "\"<>^`{|}" {
		resp, _ := s.asAlice("GET /admin%3B" + string(c) + "/x")
		for _, r := range s.requests() {
			t.Errorf("%c: the app got %s", c, r.RequestURI)
		}
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%c: got %s", c, resp.Status)
		}
		if resp, _ := s.asAlice("GET /a" + string(c) + "b"); resp.StatusCode != http.StatusOK || len(s.requests()) != 1 {
			t.Errorf("%c: got %s", c, resp.Status)
		}
	}
}

// What an app sends that is no HTTP is most often a part of a reply, and a log holds nothing of that.
func TestFrontDoesNotLogWhatTheAppSends(t *testing.T) {
	for name, reply := range map[string]string{
		"a field":          "HTTP/1.1 200 OK\r\nSet-Cookie canary\r\n\r\n",
		"a first field":    "HTTP/1.1 200 OK\r\n canary\r\n\r\n",
		"a first trailer":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n canary\r\n\r\n",
		"a status":         "canary\r\n\r\n",
		"a chunk's length": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\ncanary\r\n",
		"a trailer":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nSet-Cookie canary\r\n\r\n",
	} {
		s := newStage(t, nil, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			must(t, err)
			_, _ = io.WriteString(conn, reply)
			_ = conn.Close()
		}, nil)
		conn, err := net.Dial("tcp", s.address)
		must(t, err)
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-Access-Token: "+aliceToken(t).Reveal()+"\r\n\r\n")
		must(t, err)
		_, _ = io.ReadAll(conn)
		_ = conn.Close()
		s.record()
		if log := s.log.take(); strings.Contains(log, "canary") || !strings.Contains(log, "level=WARN") {
			t.Errorf("%s: logged %s", name, log)
		}
	}
}

// A reply that the app breaks off half way is not one of the app's own in audit and log, as it is not for relayed requests; nor is one
// that its caller does not wait for.
func TestFrontAuditsAReplyThatBreaksOff(t *testing.T) {
	for name, c := range map[string]struct {
		leaves bool
		code   relay.Code
	}{"the app breaks off": {false, relay.CodeUpstreamFailed}, "the caller leaves": {true, relay.CodeCanceled}} {
		begun := make(chan bool)
		s := newStage(t, nil, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-begun:
			case <-r.Context().Done():
			}
			panic(http.ErrAbortHandler)
		}, nil)
		conn, err := net.Dial("tcp", s.address)
		must(t, err)
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Access-Token: "+aliceToken(t).Reveal()+"\r\n\r\n")
		must(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		must(t, err)
		if c.leaves {
			_ = conn.Close()
		} else {
			close(begun)
			if _, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("%s: half of a reply looks whole", name)
			}
		}
		if a := s.record(); a.Code != c.code || a.Status != 200 {
			t.Errorf("%s: audit: %+v", name, a)
		}
		_ = conn.Close()
	}
}
