package brokerapp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "CANARY-secret"
	token  = "CANARY-token"
)

// platform is a workspace with one app, and what is asked of it.
type platform struct {
	*httptest.Server
	app *httptest.Server

	tokens, lookups atomic.Int64
	life            atomic.Int64 // of a token, in seconds

	mu     sync.Mutex
	answer map[string]http.HandlerFunc // instead of the usual, by path
	other  string                      // server id of a second instance, which answers GETs
	seen   []http.Header               // at the app
}

const serverID = "NSERVERONE"

func newPlatform(t *testing.T) *platform {
	t.Helper()
	p := &platform{answer: map[string]http.HandlerFunc{}}
	p.life.Store(3600)
	p.Server = httptest.NewServer(http.HandlerFunc(p.workspace))
	t.Cleanup(p.Server.Close)
	p.app = httptest.NewServer(http.HandlerFunc(p.front))
	t.Cleanup(p.app.Close)
	return p
}

// instead has a path answered in another way; nil for the usual.
func (p *platform) instead(path string, answer http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer[path] = answer
}

func (p *platform) replaced(w http.ResponseWriter, r *http.Request) bool {
	p.mu.Lock()
	answer := p.answer[r.URL.Path]
	p.mu.Unlock()
	if answer != nil {
		answer(w, r)
	}
	return answer != nil
}

func (p *platform) workspace(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/oidc/v1/token":
		n := p.tokens.Add(1)
		if p.replaced(w, r) {
			return
		}
		id, password, _ := r.BasicAuth()
		if id != "client" || password != secret || r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("scope") != "all-apis" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprintf(w, `{"error":"invalid_client","error_description":"%s"}`, password)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"%s-%d","token_type":"Bearer","expires_in":%d}`, token, n, p.life.Load())
	case "/api/2.0/apps/broker":
		p.lookups.Add(1)
		if p.replaced(w, r) {
			return
		}
		fmt.Fprintf(w, `{"name":"broker","url":%q,"compute_max_instances":1,"compute_status":{"active_instances":1}}`, p.app.URL)
	default:
		http.NotFound(w, r)
	}
}

func (p *platform) front(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen = append(p.seen, r.Header.Clone())
	other := p.other
	p.mu.Unlock()
	if p.replaced(w, r) {
		return
	}
	if r.Header.Get("Upgrade") == "" {
		id := serverID
		if other != "" {
			id = other
		}
		_ = json.NewEncoder(w).Encode(Status{Type: StatusTypeName, ServerID: id})
		return
	}
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	conn := websocket.NetConn(r.Context(), c, websocket.MessageBinary)
	_, _ = io.Copy(conn, conn) // until the client leaves
}

// door leads to the platform's app, under its name if there is no other address.
func (p *platform) door(t *testing.T, address string, log io.Writer) *Door {
	t.Helper()
	client, err := NewClient("")
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := Principal{Workspace: p.URL, ClientID: "client", Secret: secret}.Tokens(client)
	if err != nil {
		t.Fatal(err)
	}
	if address == "" {
		address = "app:broker"
	}
	if log == nil {
		log = io.Discard
	}
	d, err := New(Config{Address: address, Workspace: p.URL, Tokens: tokens, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A door opens a stream of bytes, with the service principal's token on the upgrade; token and address are kept.
func TestDial(t *testing.T) {
	p := newPlatform(t)
	for _, address := range []string{"app:broker", p.app.URL, p.app.URL + "/"} {
		d := p.door(t, address, nil)
		for range 3 {
			c, err := d.Dial(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", address, err)
			}
			sent := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
			go func() { _, _ = c.Write(sent) }() // what is read tells
			got := make([]byte, len(sent))
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%s: %v", address, err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if p.tokens.Load() != 3 || p.lookups.Load() != 1 {
		t.Errorf("%d tokens and %d look-ups for three doors", p.tokens.Load(), p.lookups.Load())
	}
	for _, h := range p.seen {
		if !strings.HasPrefix(h.Get("Authorization"), "Bearer "+token) {
			t.Errorf("Authorization %q", h.Get("Authorization"))
		}
	}
}

// A token is renewed before it expires, and replaced when the platform does not accept it.
func TestTokensAreRenewed(t *testing.T) {
	p := newPlatform(t)
	d := p.door(t, "", nil)
	dial := func() error {
		c, err := d.Dial(t.Context())
		if err == nil {
			err = c.Close()
		}
		return err
	}
	for _, step := range []struct {
		what   string
		change func()
		tokens int64
		fails  bool
	}{
		{"the first", func() {}, 1, false},
		{"is kept", func() {}, 1, false},
		{"until it is old", func() { d.cfg.Tokens.(*principal).last.Expiry = time.Now().Add(refreshBefore - time.Second) }, 2, false},
		{"refused", func() {
			p.instead(Path, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) })
		}, 2, true},
		{"replaced", func() { p.instead(Path, nil) }, 3, false},
		{"the app is down", func() {
			p.instead(Path, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		}, 3, true},
		{"which is not the token's fault", func() { p.instead(Path, nil) }, 3, false},
	} {
		step.change()
		if err := dial(); (err != nil) != step.fails || p.tokens.Load() != step.tokens {
			t.Errorf("%s: %v, %d tokens", step.what, err, p.tokens.Load())
		}
	}
	// One that lives for a moment only is used for half of that.
	p.life.Store(20)
	d.cfg.Tokens.Forget()
	for range 3 {
		if err := dial(); err != nil {
			t.Error(err)
		}
	}
	if p.tokens.Load() != 4 {
		t.Errorf("%d tokens", p.tokens.Load())
	}
}

// Each fault is told with its remedy, and none with a secret.
func TestFaults(t *testing.T) {
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/oidc/v1/token")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		}
	}
	const tokens, apps = "/oidc/v1/token", "/api/2.0/apps/broker"
	leak := `{"error":"` + secret + ` x","error_code":"` + secret + ` x","message":"` + secret + `"}`
	for _, c := range []struct {
		path   string
		answer http.HandlerFunc
		want   string
	}{
		{tokens, status(401, `{"error":"invalid_client","error_description":"`+secret+`"}`), "no token (401 invalid_client): compare DATABRICKS_CLIENT_ID"},
		{tokens, status(400, leak), "no token (400): compare"},
		{tokens, status(302, ""), "answered 302"},
		{tokens, status(500, leak), "answered 500"},
		{tokens, status(200, "<html>"+secret), "the workspace's token endpoint"},
		{apps, status(404, `{"error_code":"RESOURCE_DOES_NOT_EXIST"}`), "(404 RESOURCE_DOES_NOT_EXIST): deploy it, and give this app's service principal CAN USE"},
		{apps, status(403, leak), "(403): deploy it"},
		{apps, status(401, ""), "does not accept the token"},
		{apps, status(503, leak), "answered 503"},
		{apps, status(200, "<html>"), "not the JSON of its Apps API"},
		{apps, status(200, "{}"), "has no URL yet: start it"},
		{apps, status(200, `{"url":"http://elsewhere.example"}`), "tokens are sent in clear to loopback addresses only"},
		{apps, status(200, `{"url":"https://u:p@elsewhere.example"}`), "holds a user name or password"},
		{Path, status(302, ""), "sign-in page (302)"},
		{Path, status(401, leak), "sign-in page (401)"},
		{Path, status(403, leak), "(403): give its service principal CAN USE"},
		{Path, status(404, ""), "no broker app (404): it must run obo-broker"},
		{Path, status(502, ""), "does not run (502): start it"},
		{Path, status(429, leak), "answered 429"},
	} {
		p := newPlatform(t)
		p.instead(c.path, c.answer)
		_, err := p.door(t, "", nil).Dial(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v lacks %q", err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "CANARY") {
			t.Errorf("a secret: %v", err)
		}
	}
	p := newPlatform(t)
	d := p.door(t, "", nil)
	p.app.Close()
	if _, err := d.Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "the front proxy of broker: dial tcp") || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("%v", err)
	}
	p.Server.Close()
	if _, err := p.door(t, "", nil).Dial(t.Context()); err == nil || !strings.Contains(err.Error(), "token endpoint cannot be reached") || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("%v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newPlatform(t).door(t, "", nil).Dial(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// A redirect is not followed: the token would go where nobody has said it may.
func TestRedirectsTakeNoToken(t *testing.T) {
	p := newPlatform(t)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s with %q", r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	away := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}
	for _, path := range []string{Path, "/api/2.0/apps/broker", "/oidc/v1/token"} {
		p.instead(path, away)
		d := p.door(t, "", nil)
		if _, err := d.Dial(t.Context()); err == nil {
			t.Errorf("%s: dialed", path)
		}
		if _, err := d.Status(t.Context()); err == nil {
			t.Errorf("%s: told its status", path)
		}
		p.instead(path, nil)
	}
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// More than one instance is told: what the workspace says at once, and what answers when that is seen twice.
func TestSeveralInstances(t *testing.T) {
	p := newPlatform(t)
	var log syncBuffer
	d := p.door(t, "", &log)
	if s, err := d.Status(t.Context()); err != nil || s.ServerID != serverID {
		t.Fatalf("%+v %v", s, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := make(chan struct{}, 1000)
	var mine atomic.Pointer[string]
	be := func(id string) { mine.Store(&id) }
	be(serverID)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.watch(ctx, func() string {
			asked <- struct{}{}
			return *mine.Load()
		}, time.Millisecond)
	}()
	look := func(n int) {
		for range n {
			<-asked
		}
	}
	look(20)
	be("") // not connected
	look(10)
	be(serverID)
	look(10)
	if text := log.String(); text != "" {
		t.Errorf("one server: %s", text)
	}
	p.mu.Lock()
	p.other = "NSERVERTWO"
	p.mu.Unlock()
	for !strings.Contains(log.String(), "two NATS servers answer at broker") {
		look(1)
	}
	look(20)
	cancel()
	<-done
	text := log.String()
	for _, want := range []string{"level=ERROR", "exactly one instance", "connected_to=" + serverID, "other=NSERVERTWO"} {
		if !strings.Contains(text, want) || strings.Count(text, "\n") != 1 {
			t.Errorf("log lacks %q, or says it again:\n%s", want, text)
		}
	}

	log = syncBuffer{}
	p.instead("/api/2.0/apps/broker", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"url":%q,"compute_max_instances":3,"compute_status":{"active_instances":2}}`, p.app.URL)
	})
	if _, err := p.door(t, "", &log).Status(t.Context()); err != nil || !strings.Contains(log.String(), "runs as 2 instances and may run as 3") {
		t.Errorf("%v, log %s", err, log.String())
	}
}

// What answers in its place is told from a broker app.
func TestStatusOfSomethingElse(t *testing.T) {
	p := newPlatform(t)
	for _, body := range []string{"<html>", "{}", `{"type":"obo.v1.broker"}`, `{"type":"x","server_id":"N"}`} {
		p.instead(Path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) })
		if _, err := p.door(t, "", nil).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "no broker app") {
			t.Errorf("%s: %v", body, err)
		}
	}
}
