package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"strings"
)

// Front is a stand-in for the proxy before one Databricks App. It is an
// [http.Handler]; [Front.Listen] serves it.
//
// A request needs the session cookie of a browser that has signed in, or the
// bearer token of a person or service principal; any other is answered 302 to
// the workspace's sign-in page. What passes has lost Authorization, every
// forwarding header and every header that is not a standard one, and tells the
// app instead:
//
//	X-Forwarded-Host                 host and port that the caller asked for
//	X-Forwarded-User                 <user id>@<workspace id>
//	X-Forwarded-Preferred-Username   user name; a service principal's client id
//	X-Forwarded-Email                primary e-mail address; none for a service principal
//	X-Real-Ip                        the caller's address
//	X-Request-Id                     new for every request
//	X-Forwarded-Access-Token         the person's token: only to a browser's session,
//	                                 only with user authorization on
//
// GET /.auth/logout ends a session.
type Front struct {
	cfg      FrontConfig
	app      App
	sessions *sessions
	states   *states
	allowed  map[string]bool
	proxy    *httputil.ReverseProxy
}

var _ http.Handler = (*Front)(nil)

// errCut is the cause of a context that was ended by FrontConfig.CutAfter.
var errCut = errors.New("sandbox: the exchange took longer than the platform allows")

// NewFront returns the proxy, or every fault of cfg at once.
func NewFront(cfg FrontConfig) (*Front, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("sandbox: front: %w", err)
	}
	app, _ := cfg.Workspace.App(cfg.App)
	f := &Front{
		cfg: cfg, app: app, states: newStates(cfg.Workspace.cfg.Now),
		sessions: newSessions(cfg), allowed: allowedHeaders(cfg.AllowHeaders),
	}
	f.proxy = &httputil.ReverseProxy{
		Rewrite:       f.rewrite,
		Transport:     cfg.Transport,
		ErrorHandler:  f.upstreamFailed,
		FlushInterval: -1, // server-sent events arrive as they are sent
	}
	return f, nil
}

// Listen serves the front proxy at addr, such as "127.0.0.1:0", from now until
// Close, and makes that address the app's URL. Call [Front.SetURL] afterwards if
// browsers know it by another, as when listening on all addresses.
func (f *Front) Listen(addr string) (*Server, error) {
	return listen(addr, f, f.SetURL, f.CloseIdleConnections, f.cfg.Log)
}

// SetURL tells the workspace the app's public base URL, when the proxy is not
// served by [Front.Listen].
func (f *Front) SetURL(base string) error { return f.cfg.Workspace.setAppURL(f.app.Name, base) }

// CloseIdleConnections closes the connections to the app that are not in use.
// Closing the [Server] of [Front.Listen] does it.
func (f *Front) CloseIdleConnections() {
	if t, ok := f.cfg.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// caller is who a request comes from, and the token to hand to the app, if any.
type caller struct {
	principal
	token string
}

type callerKey struct{}

// ServeHTTP answers as the platform's proxy.
func (f *Front) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case callbackPath:
		f.callback(rw, r)
		return
	case "/.auth/logout":
		f.logout(rw, r)
		return
	}
	who, err := f.caller(r)
	if err != nil {
		f.cfg.Log.Debug("sign-in needed", "app", f.app.Name, "method", r.Method, "path", r.URL.Path, "reason", err.Error())
		f.signIn(rw, r)
		return
	}
	if !f.mayUse(who) {
		f.cfg.Log.Debug("refused", "app", f.app.Name, "principal", who.name, "path", r.URL.Path)
		writePage(rw, http.StatusForbidden, page{
			Title: "Not allowed", Message: fmt.Sprintf("%s has no permission to use app %s.", who.name, f.app.Name),
		}, "")
		return
	}
	f.cfg.Log.Debug("request", "app", f.app.Name, "principal", who.name, "method", r.Method, "path", r.URL.Path)
	ctx := context.WithValue(r.Context(), callerKey{}, who)
	cut := f.cfg.CutAfter
	if isWebSocket(r) {
		cut = f.cfg.CutWebSocketsAfter
	}
	if cut > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, cut, errCut)
		defer cancel()
	}
	f.proxy.ServeHTTP(rw, r.WithContext(ctx))
}

// caller tells who sent the request. A bearer goes before a cookie: no browser
// sends one, so whoever does means it.
func (f *Front) caller(r *http.Request) (caller, error) {
	if token, ok := bearer(r); ok && (!f.cfg.BearerOnlyAPI || strings.HasPrefix(r.URL.Path, "/api/")) {
		p, _, err := f.cfg.Workspace.authenticate(token)
		if err != nil {
			return caller{}, err
		}
		if p.inactive {
			return caller{}, errors.New("principal is inactive")
		}
		who := caller{principal: p}
		if f.cfg.CarryUser && !p.servicePrincipal && strings.HasPrefix(r.URL.Path, "/api/") {
			who.token = token
		}
		return who, nil
	}
	cookie, err := r.Cookie(f.sessionCookie())
	if err != nil {
		return caller{}, errors.New("neither bearer token nor session")
	}
	user, token, err := f.sessions.enter(cookie.Value)
	if err != nil {
		return caller{}, err
	}
	p, ok := f.cfg.Workspace.directory.lookup(user)
	if !ok || p.inactive {
		return caller{}, errors.New("principal is inactive")
	}
	who := caller{principal: p}
	if f.app.UserAuthorization {
		who.token = token
	}
	return who, nil
}

func (f *Front) mayUse(who caller) bool { return f.cfg.Workspace.mayUse(f.app, who.principal) }

// rewrite makes the request that the app sees.
func (f *Front) rewrite(pr *httputil.ProxyRequest) {
	who, _ := pr.In.Context().Value(callerKey{}).(caller)
	pr.SetURL(f.cfg.upstream())
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery // ReverseProxy drops what it cannot parse
	keepAllowed(pr.Out.Header, f.allowed)
	f.dropOwnCookies(pr.Out)
	person := Person{User: who.id + "@" + f.cfg.Workspace.ID(), UserName: who.name, Token: who.token}
	if len(who.emails) > 0 {
		person.Email = who.emails[0]
	}
	Introduce(pr, person)
}

// upstreamFailed answers for an app that did not.
func (f *Front) upstreamFailed(rw http.ResponseWriter, r *http.Request, err error) {
	f.cfg.Log.Debug("upstream failed", "app", f.app.Name, "path", r.URL.Path, "error", err.Error())
	if errors.Is(context.Cause(r.Context()), errCut) {
		writePage(rw, http.StatusGatewayTimeout, page{
			Title:   "Upstream request timeout",
			Message: fmt.Sprintf("App %s had not answered after %v.", f.app.Name, f.cfg.CutAfter),
		}, "")
		return
	}
	writePage(rw, http.StatusBadGateway, page{
		Title:   "App not available",
		Message: fmt.Sprintf("App %s is not running, or does not listen on its port.", f.app.Name),
	}, "")
}

func isWebSocket(r *http.Request) bool {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return false
	}
	for _, line := range r.Header.Values("Connection") {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "upgrade") {
				return true
			}
		}
	}
	return false
}
