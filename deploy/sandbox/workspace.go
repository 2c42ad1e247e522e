package sandbox

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Workspace is a stand-in for a Databricks workspace. It is an [http.Handler];
// [Workspace.Listen] serves it. All methods may be called at any time, from any
// goroutine.
type Workspace struct {
	// Faults to play. Never nil.
	Faults *Faults

	cfg        Config
	directory  *directory
	mint       *mint
	codes      *codes
	calls      *callLog
	statements *statements
	storageKey []byte // signs external links
	mux        *http.ServeMux

	mu   sync.RWMutex
	url  string         // guarded by mu
	apps map[string]App // by name; guarded by mu
}

var _ http.Handler = (*Workspace)(nil)

// New returns a workspace, or every fault of cfg at once.
func New(cfg Config) (*Workspace, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	mint, err := newMint(cfg.Now)
	if err != nil {
		return nil, fmt.Errorf("sandbox: make a signing key: %w", err)
	}
	w := &Workspace{
		Faults: &Faults{}, cfg: cfg, directory: newDirectory(cfg), mint: mint,
		codes: newCodes(cfg.Now), calls: newCallLog(),
		statements: newStatements(cfg.Now, cfg.ChunkRows), storageKey: []byte(rand.Text()), mux: http.NewServeMux(),
		url: cfg.URL, apps: map[string]App{},
	}
	for _, a := range cfg.Apps {
		if a.ClientID == "" {
			a.ClientID = uuidFrom("app " + a.Name)
		}
		if a.ClientSecret == "" {
			a.ClientSecret = "sandbox" + rand.Text()
		}
		a.Scopes = userScopes(a.Scopes)
		a.Instances = max(a.Instances, 1)
		w.apps[a.Name] = a
		w.directory.addServicePrincipal(ServicePrincipal{
			ClientID: a.ClientID, Secret: a.ClientSecret, DisplayName: "app-" + a.Name,
		})
	}
	w.routes()
	return w, nil
}

// routes lists everything the workspace answers. An API is one line: pattern,
// scope, handler.
func (w *Workspace) routes() {
	w.api("GET /api/2.0/preview/scim/v2/Me", ScopeCurrentUserRead, w.me)
	w.api("GET /api/2.0/apps/{name}", ScopeAllAPIs, w.getApp)
	w.sqlRoutes()

	w.mux.HandleFunc("POST /oidc/v1/token", w.token)
	w.mux.HandleFunc("GET /oidc/v1/authorize", w.authorize)
	w.mux.HandleFunc("POST /oidc/v1/authorize", w.authorized)
	w.mux.HandleFunc("GET /oidc/jwks.json", w.jwks)
	w.mux.HandleFunc("GET /oidc/.well-known/oauth-authorization-server", w.oauthMetadata)
	w.mux.HandleFunc("GET /.well-known/databricks-config", w.hostMetadata)
	w.mux.HandleFunc("GET /login.html", w.home)
	w.mux.HandleFunc("GET /{$}", w.home)
	w.mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		writeError(rw, http.StatusNotFound, "ENDPOINT_NOT_FOUND",
			fmt.Sprintf("No API found for '%s %s'", r.Method, strings.TrimPrefix(r.URL.Path, "/api/2.0")))
	})
}

// URL is the workspace's base URL.
func (w *Workspace) URL() string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.url
}

// SetURL tells the workspace the base URL it is served at, when it is not
// served by [Workspace.Listen].
func (w *Workspace) SetURL(base string) error {
	if err := validBaseURL(base); err != nil {
		return fmt.Errorf("sandbox: workspace: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.url = base
	return nil
}

// ID is the workspace id.
func (w *Workspace) ID() string { return w.cfg.ID }

// App returns the app with its service principal's credentials filled in.
func (w *Workspace) App(name string) (App, bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	a, ok := w.apps[name]
	a.Scopes, a.CanUse = slices.Clone(a.Scopes), slices.Clone(a.CanUse)
	return a, ok
}

func (w *Workspace) setAppURL(name, base string) error {
	if err := validBaseURL(base); err != nil {
		return fmt.Errorf("sandbox: app %q: %w", name, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.apps[name]
	a.URL = base
	w.apps[name] = a
	return nil
}

func (w *Workspace) listApps() []App {
	w.mu.RLock()
	defer w.mu.RUnlock()
	list := make([]App, 0, len(w.cfg.Apps))
	for _, a := range w.cfg.Apps {
		list = append(list, w.apps[a.Name])
	}
	return list
}

// Env is the environment that the platform gives to the app, as "NAME=value".
// DATABRICKS_APP_PORT is the caller's to add.
func (w *Workspace) Env(app string) ([]string, error) {
	a, ok := w.App(app)
	if !ok {
		return nil, fmt.Errorf("sandbox: no app %q", app)
	}
	return []string{
		"DATABRICKS_APP_NAME=" + a.Name,
		"DATABRICKS_HOST=" + w.URL(),
		"DATABRICKS_WORKSPACE_ID=" + w.cfg.ID,
		"DATABRICKS_CLIENT_ID=" + a.ClientID,
		"DATABRICKS_CLIENT_SECRET=" + a.ClientSecret,
	}, nil
}

// Token issues a token for the principal, a user name or a client id.
func (w *Workspace) Token(principal string, opts TokenOptions) (string, error) {
	token, _, err := w.issue(principal, opts)
	return token, err
}

func (w *Workspace) issue(principal string, opts TokenOptions) (string, time.Time, error) {
	p, ok := w.directory.lookup(principal)
	if !ok {
		return "", time.Time{}, fmt.Errorf("sandbox: no principal %q", principal)
	}
	clientID, scopes := "databricks-cli", userScopes(nil)
	if p.servicePrincipal {
		clientID, scopes = p.name, []string{ScopeAllAPIs}
	}
	if opts.App != "" {
		app, ok := w.App(opts.App)
		if !ok {
			return "", time.Time{}, fmt.Errorf("sandbox: no app %q", opts.App)
		}
		clientID, scopes = app.ClientID, app.Scopes
	}
	if opts.Scopes != nil {
		scopes = opts.Scopes
	}
	if opts.Lifetime == 0 {
		opts.Lifetime = w.cfg.TokenLifetime
	}
	return w.mint.issue(claims{
		ClientID: clientID, Scope: strings.Join(scopes, " "),
		Issuer: w.URL() + "/oidc", Audience: w.cfg.ID, Subject: p.name,
	}, opts.Lifetime)
}

// Revoke makes a token invalid from now on.
func (w *Workspace) Revoke(token string) error { return w.mint.revoke(token, w.cfg.ID) }

// SetGroups makes the named principal a direct member of exactly these groups.
func (w *Workspace) SetGroups(name string, groups ...string) error {
	groups = slices.Clone(groups)
	return w.directory.change(name, func(p *principal) { p.groups = groups })
}

// SetMemberOf makes the group a member of exactly these groups.
func (w *Workspace) SetMemberOf(group string, parents ...string) {
	w.directory.setMemberOf(group, parents)
}

// SetActive deactivates the named principal, whose tokens are then refused with 403, or
// activates it again. What the platform answers to a deactivated user's token
// is a guess.
func (w *Workspace) SetActive(name string, active bool) error {
	return w.directory.change(name, func(p *principal) { p.inactive = !active })
}

// Calls returns what has been called so far.
func (w *Workspace) Calls() Calls { return w.calls.snapshot() }

// ResetCalls forgets the calls so far.
func (w *Workspace) ResetCalls() { w.calls.reset() }

// userScopes are the default scopes of a person's token and those added.
func userScopes(added []string) []string {
	scopes := []string{ScopeCurrentUserRead, ScopeAccessControlRead}
	for _, s := range added {
		if !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	return scopes
}
