package doctor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

const alice = "alice@example.com"

// rig is a relay in which everything is well, until a test breaks a part of it.
type rig struct {
	t         *testing.T
	net       *relaytest.Net
	workspace *sandbox.Workspace
	app       *httptest.Server // the middleware app
	cfg       Config           // of the app's side
}

func newRig(t *testing.T, o relaytest.Options) *rig {
	t.Helper()
	t.Parallel()
	r := &rig{t: t, net: relaytest.NewWith(t, new(relaytest.Log), o)}
	var err error
	r.workspace, err = sandbox.New(sandbox.Config{
		Users: []sandbox.User{{UserName: alice, Groups: []string{"analysts"}}},
		Apps:  []sandbox.App{{Name: "ui", UserAuthorization: true}, {Name: "middleware", UserAuthorization: true}},
	})
	relaytest.Must(t, err)
	server, err := r.workspace.Listen("127.0.0.1:0")
	relaytest.Must(t, err)
	t.Cleanup(func() { relaytest.Must(t, server.Close()) })
	r.app = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "the app") }))
	t.Cleanup(r.app.Close)
	r.cfg = Config{
		Side: &relay.Side{
			Name: relaytest.App, Identity: r.net.AppID, Trust: r.net.Trust, Hints: relay.HintsFull,
			Connect: relay.ConnectConfig{URL: r.net.URL, NKeySeed: r.net.App.Seed},
		},
		Role: relay.RoleApp, Name: relaytest.App, Workspace: r.workspace.URL(),
		Token: r.token(sandbox.TokenOptions{}), TokenFrom: "a test",
		Environ: []string{"DATABRICKS_APP_NAME=ui", "OBO_KIT=SECRET-KIT", "DATABRICKS_CLIENT_SECRET=SECRET-CLIENT", "OBO_NATS=nats://u:SECRET-PASSWORD@h", "HOME=/root"},
		Timeout: relaytest.Patience, Wait: relaytest.Patience,
	}
	return r
}

func (r *rig) token(o sandbox.TokenOptions) string {
	r.t.Helper()
	o.App = "ui"
	token, err := r.workspace.Token(alice, o)
	relaytest.Must(r.t, err)
	return token
}

// worker starts a worker that looks people up and hands requests to the app.
func (r *rig) worker(change func(*worker.Config)) {
	r.t.Helper()
	workspace, err := worker.NewWorkspace(worker.WorkspaceConfig{Host: r.workspace.URL()})
	relaytest.Must(r.t, err)
	r.t.Cleanup(workspace.Close)
	lookup, err := worker.NewCachedLookup(worker.LookupConfig{Ask: workspace.Me})
	relaytest.Must(r.t, err)
	r.t.Cleanup(lookup.Close)
	base, err := url.Parse(r.app.URL)
	relaytest.Must(r.t, err)
	app, err := worker.Forward(base, r.net.Log)
	relaytest.Must(r.t, err)
	routes, err := worker.NewRoutes(worker.RoutesConfig{Workspace: workspace, Next: app, Log: r.net.Log})
	relaytest.Must(r.t, err)
	r.t.Cleanup(routes.Close)
	r.net.Worker(routes, func(c *worker.Config) {
		c.Lookup, c.Workspace = lookup, workspace
		if change != nil {
			change(c)
		}
	})
}

// look runs the doctor. Its report must fit the schema and hold no secret.
func (r *rig) look() *Report {
	r.t.Helper()
	report := Run(r.t.Context(), r.cfg)
	text := checkDocument(r.t, report)
	secrets := []string{"SECRET-", r.cfg.Token, r.net.App.Seed, r.net.Service.Seed, r.net.AppID.Private().D}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(text, secret) {
			r.t.Errorf("the report holds a secret:\n%s", text)
		}
	}
	return report
}

// find returns the first check of that name with the worst verdict.
func (r *Report) find(name string) (found Check, ok bool) {
	for _, c := range r.Checks {
		if c.Name == name && (!ok || rank(c.Verdict) > rank(found.Verdict)) {
			found, ok = c, true
		}
	}
	return found, ok
}

// want wants a verdict with parts of its detail and remedy.
func (r *Report) want(t *testing.T, name string, verdict Verdict, detail, remedy string) {
	t.Helper()
	c, ok := r.find(name)
	if !ok || c.Verdict != verdict || !strings.Contains(c.Detail, detail) || !strings.Contains(c.Remedy, remedy) || verdict != OK && verdict != Skipped && c.Remedy == "" {
		t.Errorf("%s: %+v, want %s with %q and to do %q; in all\n%s", name, c, verdict, detail, remedy, r.text())
	}
}

// wantOnly wants that nothing else failed.
func (r *Report) wantOnly(t *testing.T, names ...string) {
	t.Helper()
	for _, c := range r.Checks {
		if c.Verdict == Failed && !slices.Contains(names, c.Name) {
			t.Errorf("%s failed too: %s", c.Name, c.Detail)
		}
	}
	if r.ExitCode() != 1 || r.Verdict != Failed {
		t.Errorf("exit code %d, verdict %s", r.ExitCode(), r.Verdict)
	}
}

func (r *Report) text() string {
	var b strings.Builder
	r.Print(&b)
	return b.String()
}

func in(d time.Duration) func() time.Time { return func() time.Time { return time.Now().Add(d) } }
