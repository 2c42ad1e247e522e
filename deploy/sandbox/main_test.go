package sandbox

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Started by the init of a package that the SDK links; never ends.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
}

const mePath = "/api/2.0/preview/scim/v2/Me"

// testClock stands still until it is moved.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func newTestClock() *testClock {
	return &testClock{now: time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC)}
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// newTestWorkspace has alice (data-admins, analysts), bob (analysts), apps ui
// and middleware, and analysts nested in staff.
func newTestWorkspace(t *testing.T) (*Workspace, *testClock) {
	t.Helper()
	clock := newTestClock()
	ws, err := New(Config{
		Now: clock.Now,
		Users: []User{
			{UserName: "alice@example.com", DisplayName: "Alice Doe", ID: "1001", Groups: []string{"data-admins", "analysts"},
				Emails: []string{"alice@example.com", "a.doe@example.com"}},
			{UserName: "bob@example.com", Groups: []string{"analysts"}},
		},
		Groups:            []Group{{Name: "analysts", ID: "77", MemberOf: []string{"staff"}}},
		ServicePrincipals: []ServicePrincipal{{ClientID: "robot", Secret: "robot-secret", Groups: []string{"robots"}}},
		Apps: []App{
			{Name: "ui", UserAuthorization: true, Scopes: []string{"sql"}},
			{Name: "middleware", UserAuthorization: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return ws, clock
}

func mustToken(t *testing.T, ws *Workspace, principal string, opts TokenOptions) string {
	t.Helper()
	token, err := ws.Token(principal, opts)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// call serves one request without a network.
func call(h http.Handler, method, target, token string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

func decode(t *testing.T, body io.Reader) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.NewDecoder(body).Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// serve listens on loopback until the test ends.
func serve(t *testing.T, listen func(string) (*Server, error)) *Server {
	t.Helper()
	s, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// echo is an app that answers with the request headers that it saw.
func echo() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		seen := map[string]string{"Host": r.Host, "Path": r.URL.RequestURI()}
		for name, values := range r.Header {
			seen[name] = strings.Join(values, "|")
		}
		writeJSON(rw, http.StatusOK, seen)
	})
}

// stage is a workspace and one app behind its front proxy, all on ports.
type stage struct {
	ws    *Workspace
	clock *testClock
	front *Front
	entry *Server // of the front
	door  string  // its URL
}

func newStage(t *testing.T, app http.Handler, change func(*FrontConfig)) stage {
	t.Helper()
	ws, clock := newTestWorkspace(t)
	serve(t, ws.Listen)
	upstream := httptest.NewServer(app)
	t.Cleanup(upstream.Close)
	cfg := FrontConfig{Workspace: ws, App: "ui", Upstream: upstream.URL}
	if change != nil {
		change(&cfg)
	}
	front, err := NewFront(cfg)
	if err != nil {
		t.Fatal(err)
	}
	entry := serve(t, front.Listen)
	return stage{ws: ws, clock: clock, front: front, entry: entry, door: entry.URL()}
}

// newBrowser keeps cookies and follows redirects, unlike a program.
func newBrowser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Jar: jar, Transport: transport}
}

// newProgram follows no redirects.
func newProgram(t *testing.T) *http.Client {
	t.Helper()
	c := newBrowser(t)
	c.Jar = nil
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c
}

func get(t *testing.T, c *http.Client, address string, header ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// signIn opens address, chooses the user on the sign-in page and returns what
// the browser ends at.
func signIn(t *testing.T, browser *http.Client, address, user string) *http.Response {
	t.Helper()
	form := get(t, browser, address)
	if form.StatusCode != http.StatusOK || !strings.HasPrefix(form.Request.URL.Path, "/oidc/") {
		t.Fatalf("expected the sign-in page, got %s at %s", form.Status, form.Request.URL)
	}
	values := form.Request.URL.Query()
	values.Set("user", user)
	action := *form.Request.URL
	action.RawQuery = ""
	resp, err := browser.PostForm(action.String(), values)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func decodeInto(t *testing.T, body string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), v); err != nil {
		t.Fatal(err)
	}
}
