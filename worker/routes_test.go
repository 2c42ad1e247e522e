package worker_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// logBuffer is a log that is written and read at once.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// stage is a person's UI, the relay, a worker with its routes, and a workspace.
type stage struct {
	t      *testing.T
	ws     *sandbox.Workspace
	log    *logBuffer
	client *http.Client
	routes *worker.Routes
}

func newStage(t *testing.T, change func(*sandbox.Config, *worker.RoutesConfig)) *stage {
	t.Helper()
	log := &logBuffer{}
	cfg := sandbox.Config{
		ChunkRows: 1000, Warehouses: []string{"w1"},
		Users: []sandbox.User{
			{UserName: "alice@example.com", DisplayName: "Alice", Groups: []string{"emea", "analysts"}},
			{UserName: "bob@example.com", Groups: []string{"amer"}},
		},
		Apps: []sandbox.App{{Name: relaytest.App, UserAuthorization: true, Scopes: []string{sandbox.ScopeSQL}}, {Name: "middleware"}},
		Tables: []sandbox.Table{
			{Name: "demo.sales", Columns: []sandbox.Column{{Name: "region"}, {Name: "amount", Type: "BIGINT"}}, Rows: []sandbox.Row{
				{Values: []any{"emea", 10}, Groups: []string{"emea"}}, {Values: []any{"amer", 20}, Groups: []string{"amer"}},
			}},
			{Name: "secret", Columns: []sandbox.Column{{Name: "a"}}, Groups: []string{"analysts"}},
			{Name: "odd", Columns: []sandbox.Column{{Name: "a"}, {Name: "a"}, {Name: `n"é`, Type: "DOUBLE"}, {Name: "d", Type: "DECIMAL(10,2)"}},
				Rows: []sandbox.Row{{Values: []any{"", nil, "NaN", "1.50"}}, {Values: []any{"x,\"y\"\n", "ü€😀", "-1.5E-3", nil}}}},
		},
	}
	routes := worker.RoutesConfig{Warehouse: "w1", API: []string{"/api/2.0/preview/scim/v2/Me"}}
	if change != nil {
		change(&cfg, &routes)
	}
	ws, err := sandbox.New(cfg)
	relaytest.Must(t, err)
	server, err := ws.Listen("127.0.0.1:0")
	relaytest.Must(t, err)
	t.Cleanup(func() { relaytest.Must(t, server.Close()) })
	return newStageOn(t, server.URL(), ws, log, routes)
}

// newStageOn is a stage whose workspace is at host.
func newStageOn(t *testing.T, host string, ws *sandbox.Workspace, log *logBuffer, cfg worker.RoutesConfig) *stage {
	t.Helper()
	asTheRobot(t, ws, host)
	workspace, err := worker.NewWorkspace(worker.WorkspaceConfig{Host: host, RetryTimeout: time.Second})
	relaytest.Must(t, err)
	t.Cleanup(workspace.Close)
	cfg.Workspace, cfg.Log = workspace, slog.New(slog.NewTextHandler(log, nil))
	routes, err := worker.NewRoutes(cfg)
	relaytest.Must(t, err)
	t.Cleanup(routes.Close)
	n := relaytest.New(t, log)
	n.Worker(routes, nil)
	transport := n.Publisher(nil)
	return &stage{t: t, ws: ws, log: log, client: &http.Client{Transport: transport}, routes: routes}
}

// asTheRobot sets everything that the SDK would take another identity from.
func asTheRobot(t *testing.T, ws *sandbox.Workspace, host string) {
	t.Helper()
	id, secret := "robot", "secret-of-the-robot"
	if ws != nil {
		app, _ := ws.App("middleware")
		id, secret = app.ClientID, app.ClientSecret
	}
	file := filepath.Join(t.TempDir(), "databrickscfg")
	relaytest.Must(t, os.WriteFile(file, []byte("[robot]\nhost = "+host+"\nclient_id = "+id+"\nclient_secret = "+secret+"\n"), 0o600))
	for name, value := range map[string]string{
		"DATABRICKS_CLIENT_ID": id, "DATABRICKS_CLIENT_SECRET": secret, "DATABRICKS_TOKEN": "dapi-of-the-environment",
		"DATABRICKS_HOST": host, "DATABRICKS_CONFIG_FILE": file, "DATABRICKS_CONFIG_PROFILE": "robot", "DATABRICKS_AUTH_TYPE": "oauth-m2m",
	} {
		t.Setenv(name, value)
	}
}

func (s *stage) token(who string, o sandbox.TokenOptions) string {
	s.t.Helper()
	if o.Scopes == nil && o.App == "" {
		o.App = relaytest.App
	}
	token, err := s.ws.Token(who, o)
	relaytest.Must(s.t, err)
	return token
}

func (s *stage) request(method, path, token, body string, header ...string) *http.Request {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+relaytest.Service+path, strings.NewReader(body))
	relaytest.Must(s.t, err)
	r.Header.Set(relay.HeaderAccessToken, token)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// answer is a reply that was read to its end, or the failure in its place.
type answer struct {
	status int
	header http.Header
	body   string
	err    error // that of the request, or of reading the body
}

func (s *stage) do(r *http.Request) answer {
	s.t.Helper()
	resp, err := s.client.Do(r)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body), err}
}

func (s *stage) call(method, path, token, body string, header ...string) answer {
	s.t.Helper()
	return s.do(s.request(method, path, token, body, header...))
}

// onlyThePerson fails the test if anyone but alice or bob was seen by the workspace's APIs.
func (s *stage) onlyThePerson() {
	s.t.Helper()
	for _, c := range s.ws.Calls() {
		ofStorage := strings.HasPrefix(c.Path, "/sandbox-storage/") && c.Principal == ""
		if !ofStorage && !strings.HasSuffix(c.Principal, "@example.com") {
			s.t.Errorf("called as somebody else: %+v", c)
		}
	}
}

// code is the code of a failure, whichever way it came.
func (a answer) code(t *testing.T) relay.Code {
	t.Helper()
	if a.err != nil {
		return relay.AsError(a.err).Code
	}
	var p relay.Problem
	if a.header.Get("Content-Type") == "application/problem+json" {
		relaytest.Must(t, json.Unmarshal([]byte(a.body), &p))
	}
	return p.Code
}

func (a answer) text() string {
	if a.err != nil {
		return a.err.Error()
	}
	return a.body
}

func TestRouteMe(t *testing.T) {
	s := newStage(t, nil)
	a := s.call("GET", "/.obo/me", s.token("alice@example.com", sandbox.TokenOptions{}), "")
	var u worker.User
	if err := json.Unmarshal([]byte(a.body), &u); err != nil || u.UserName != "alice@example.com" || strings.Join(u.Groups, " ") != "analysts emea" {
		t.Errorf("%+v %v", a, err)
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", a.header)
	}
	a = s.call("GET", "/.obo/me", s.token("alice@example.com", sandbox.TokenOptions{Scopes: []string{"sql"}}), "")
	if code := a.code(t); code != relay.CodeScopeMissing || !strings.Contains(a.text(), "iam.current-user:read") {
		t.Errorf("%s: %s", code, a.text())
	}
	s.onlyThePerson()
}

func TestRoutesAreTheirPathsOnly(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "next "+r.URL.EscapedPath()) })
	s := newStage(t, func(_ *sandbox.Config, c *worker.RoutesConfig) { c.Next = next })
	token := s.token("alice@example.com", sandbox.TokenOptions{})
	for _, path := range []string{"/", "/groups", "/.obox/me", "/.OBO/me", "/a/.obo/me"} {
		if a := s.call("GET", path, token, ""); a.body != "next "+path {
			t.Errorf("%s: %+v", path, a)
		}
	}
	for path, code := range map[string]relay.Code{
		"GET /.obo": relay.CodeNotFound, "GET /.obo/": relay.CodeNotFound, "GET /.obo/x": relay.CodeNotFound, "GET /.obo/me/": relay.CodeNotFound,
		"GET /.ob%6F/me": relay.CodeNotFound, "GET /.obo/m%65": relay.CodeNotFound, "POST /.obo/me": relay.CodeBadRequest, "GET /.obo/sql": relay.CodeBadRequest,
		"GET /.obo/workspace": relay.CodeNotFound, "GET /.obo/workspace/api": relay.CodeNotFound, "GET /.obo/workspace/oidc/v1/token": relay.CodeNotFound,
	} {
		method, path, _ := strings.Cut(path, " ")
		if a := s.call(method, path, token, ""); a.code(t) != code || strings.Contains(a.body, "next") {
			t.Errorf("%s: %+v, want %s", path, a, code)
		}
	}
	// Nobody outside of the relay is served.
	rec := newRecorder()
	r, _ := http.NewRequest("GET", "/.obo/me", nil)
	r.Header.Set(relay.HeaderAccessToken, token)
	s.routes.ServeHTTP(rec, r)
	if rec.status != 401 {
		t.Errorf("outside of the relay: %d", rec.status)
	}
	if n := s.ws.Calls().Count(); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// recorder is a ResponseWriter that is not the relay's.
type recorder struct {
	header http.Header
	status int
	bytes.Buffer
}

func newRecorder() *recorder { return &recorder{header: http.Header{}} }

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }

func TestRoutesConfigFaults(t *testing.T) {
	_, err := worker.NewRoutes(worker.RoutesConfig{
		API: []string{"/api/../x", "api/2.0", "/apix", "/oidc"}, Warehouse: "../x", LinkHosts: []string{"https://a", "a/b", ""}, RetryTimeout: -1,
	})
	for _, want := range []string{"Workspace", `"/api/../x"`, `"api/2.0"`, `"/apix"`, `"/oidc"`, "Warehouse", `"https://a"`, `"a/b"`, `link host ""`, "RetryTimeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}
