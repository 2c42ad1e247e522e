package sandbox

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Cookies of one host are shared by all its ports, so the names tell the app.
func (f *Front) sessionCookie() string { return "sandbox_session_" + f.app.Name }
func (f *Front) stateCookie() string   { return "sandbox_state_" + f.app.Name }

// signIn sends the caller to the workspace's sign-in page, which sends a browser
// back to callback.
func (f *Front) signIn(rw http.ResponseWriter, r *http.Request) {
	app, _ := f.cfg.Workspace.App(f.app.Name)
	next := "/"
	if r.Method == http.MethodGet && !isWebSocket(r) {
		next = localPath(r.URL)
	}
	// Tabs that sign in at the same time share the browser's nonce.
	browser := ""
	if cookie, err := r.Cookie(f.stateCookie()); err == nil {
		browser = cookie.Value
	}
	state, browser := f.states.seal(next, browser)
	f.setCookie(rw, f.stateCookie(), browser, stateLifetime)
	query := url.Values{
		"client_id":     {f.app.ClientID},
		"redirect_uri":  {app.URL + callbackPath},
		"response_type": {"code"},
		"scope":         {strings.Join(f.app.Scopes, " ")},
		"state":         {state},
	}
	rw.Header().Set("Cache-Control", "no-store")
	http.Redirect(rw, r, f.cfg.Workspace.URL()+"/oidc/v1/authorize?"+query.Encode(), http.StatusFound)
}

// callback receives the browser back, with a code to redeem.
func (f *Front) callback(rw http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	cookie, err := r.Cookie(f.stateCookie())
	if err != nil {
		cookie = &http.Cookie{}
	}
	next, ok := f.states.open(query.Get("state"), cookie.Value)
	if !ok {
		// Cookies belong to a host: localhost is not 127.0.0.1.
		app, _ := f.cfg.Workspace.App(f.app.Name)
		f.refuseSignIn(rw, http.StatusBadRequest,
			"This sign-in was not begun in this browser, or took too long. Open "+app.URL+" and try again.")
		return
	}
	user, ok := f.cfg.Workspace.codes.redeem(query.Get("code"), f.app.Name)
	if !ok {
		f.refuseSignIn(rw, http.StatusForbidden, "The sign-in code is not valid, or was used before.")
		return
	}
	id, err := f.sessions.begin(user)
	if err != nil {
		f.refuseSignIn(rw, http.StatusServiceUnavailable, "Too many people are signed in.")
		return
	}
	f.setCookie(rw, f.sessionCookie(), id, f.cfg.SessionLifetime)
	rw.Header().Set("Cache-Control", "no-store")
	http.Redirect(rw, r, next, http.StatusSeeOther)
}

// logout ends the session and offers to sign in again.
func (f *Front) logout(rw http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(f.sessionCookie()); err == nil {
		f.sessions.end(cookie.Value)
	}
	f.setCookie(rw, f.sessionCookie(), "", -time.Second)
	http.Redirect(rw, r, "/", http.StatusSeeOther)
}

func (f *Front) refuseSignIn(rw http.ResponseWriter, status int, message string) {
	writePage(rw, status, page{Title: "Cannot sign in to " + f.app.Name, Message: message}, "")
}

func (f *Front) setCookie(rw http.ResponseWriter, name, value string, life time.Duration) {
	http.SetCookie(rw, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(life / time.Second),
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// localPath is the address within this host. A path such as //elsewhere.example
// would lead away from it, also with backslashes, which browsers take for
// slashes.
func localPath(u *url.URL) string {
	path := u.EscapedPath()
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\t\r\n") {
		return "/"
	}
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	return path
}
