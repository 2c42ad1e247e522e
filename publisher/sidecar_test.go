package publisher

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// newTestSidecar is a sidecar whose transport never runs: what the guard lets through fails for want of NATS.
func newTestSidecar(t testing.TB, change func(*SidecarConfig)) http.Handler {
	t.Helper()
	transport, err := New(Config{
		App: "ui", Identity: relay.NewIdentity(), Trust: trustOf(t, map[string]relay.Identity{"middleware": relay.NewIdentity()}),
		NATS: relay.ConnectConfig{URL: "nats://127.0.0.1:1"}, ConnectWait: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := SidecarConfig{Transport: transport, Service: "middleware", Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	h, err := NewSidecar(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func codeOf(t *testing.T, h http.Handler, r *http.Request) relay.Code {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	var p relay.Problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || rec.Header().Get("Content-Type") != "application/problem+json" || rec.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("%v: %d %v %s", err, rec.Code, rec.Header(), rec.Body)
	}
	if p.Status != rec.Code || p.Code.Info().Status != rec.Code {
		t.Errorf("status %d of %s", rec.Code, p.Code)
	}
	return p.Code
}

func sidecarRequest(host string, header http.Header) *http.Request {
	r := httptest.NewRequest("POST", "/x", strings.NewReader("body"))
	r.Host = host
	r.Header.Set("X-Forwarded-Access-Token", testJWT("alice", time.Now().Add(time.Hour)))
	for name, values := range header {
		r.Header[name] = values
	}
	return r
}

// Only names of this machine's loopback reach it: a page whose own host name was made to resolve to 127.0.0.1 sends its
// own name (DNS rebinding).
func TestSidecarHost(t *testing.T) {
	h := newTestSidecar(t, func(c *SidecarConfig) { c.AllowHosts = []string{"ui.internal", "named.internal:8080"} })
	for host, allowed := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:8080": true, "127.5.6.7:1": true, "localhost": true, "LOCALHOST:80": true, "[::1]": true, "[::1]:80": true,
		"ui.internal": true, "ui.internal:99": true, "named.internal:8080": true,
		"": false, "evil.example": false, "evil.example:80": false, "127.0.0.1.evil.example": false, "localhost.evil.example": false,
		"named.internal:9": false, "0.0.0.0": false, "10.0.0.1": false, "169.254.169.254": false, "127.0.0.1@evil.example": false, "2130706433": false,
		"localhost:80:80": false, "localhost.": false, "[::1].evil.example": false, "::ffff:10.0.0.1": false, "::1": false, "[127.0.0.1]": false,
	} {
		want := relay.CodeBrowserRefused
		if allowed {
			want = relay.CodeNATSUnavailable
		}
		if got := codeOf(t, h, sidecarRequest(host, nil)); got != want {
			t.Errorf("Host %q: %s, want %s", host, got, want)
		}
	}
}

// What only a browser sends is refused, whatever it says.
func TestSidecarRefusesBrowsers(t *testing.T) {
	h := newTestSidecar(t, nil)
	for _, header := range []http.Header{
		{"Origin": {"http://evil.example"}}, {"Origin": {"null"}}, {"Origin": {"http://127.0.0.1"}}, {"Origin": {""}},
		{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-origin"}}, {"Sec-Fetch-Site": {"none"}},
	} {
		if got := codeOf(t, h, sidecarRequest("127.0.0.1", header)); got != relay.CodeBrowserRefused {
			t.Errorf("%v: %s", header, got)
		}
	}
	form := sidecarRequest("127.0.0.1", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Origin": {"http://evil.example"}})
	if got := codeOf(t, h, form); got != relay.CodeBrowserRefused {
		t.Errorf("a cross-site form: %s", got)
	}
}

func TestSidecarRefusesWhatIsNoPath(t *testing.T) {
	h := newTestSidecar(t, nil)
	for name, change := range map[string]func(*http.Request){
		"absolute form": func(r *http.Request) { r.RequestURI = "http://evil.example/" },
		"asterisk":      func(r *http.Request) { r.RequestURI, r.Method = "*", "OPTIONS" },
		"connect":       func(r *http.Request) { r.RequestURI, r.Method = "127.0.0.1:80", "CONNECT" },
	} {
		r := sidecarRequest("127.0.0.1", nil)
		change(r)
		if got := codeOf(t, h, r); got != relay.CodeBadRequest {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := codeOf(t, h, sidecarRequest("127.0.0.1", http.Header{"Upgrade": {"websocket"}})); got != relay.CodeUpgradeUnsupported {
		t.Errorf("upgrade: %s", got)
	}
	r := sidecarRequest("127.0.0.1", nil)
	r.Header.Del("X-Forwarded-Access-Token")
	if got := codeOf(t, h, r); got != relay.CodeTokenMissing {
		t.Errorf("no token: %s", got)
	}
}

// Who comes when all slots are taken hears at once that it was not sent, and when to try again.
func TestSidecarIsBusy(t *testing.T) {
	h := newTestSidecar(t, func(c *SidecarConfig) { c.Transport.slots = newSlots(2) }) // one of them for each person
	token := testJWT("alice", time.Now().Add(time.Hour))
	release, err := h.(*sidecar).c.Transport.slots.take(h.(*sidecar).c.Transport.grants.tag(token))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	r := sidecarRequest("127.0.0.1", http.Header{relay.HeaderAccessToken: {token}})
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	if after := rec.Header().Get("Retry-After"); rec.Code != http.StatusServiceUnavailable || after != "1" || !strings.Contains(rec.Body.String(), `"code":"publisher_busy","outcome":"not_delivered"`) {
		t.Errorf("%d, Retry-After %q: %s", rec.Code, after, rec.Body)
	}
}

func TestSidecarConfigFaults(t *testing.T) {
	if _, err := NewSidecar(SidecarConfig{Service: "middleware"}); err == nil {
		t.Error("no transport")
	}
	_, err := New(Config{App: "UI!", Timeout: -1, MaxInFlight: -1, Hints: "loud", Prefix: "a b"})
	if err == nil {
		t.Fatal("no fault")
	}
	for _, part := range []string{"--app", "--key-file", "--trust-file", "a time", "a limit", "hints", "prefix", "OBO_NATS"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("not among the faults: %s\n%v", part, err)
		}
	}
	if errors.Is(err, relay.CodeInternal) {
		t.Error(err)
	}
}
