package sandbox

import (
	"html/template"
	"net/http"
	"net/url"

	_ "embed"
)

// callbackPath is where a front proxy receives the browser back from sign-in.
const callbackPath = "/.auth/callback"

//go:embed page.html
var pageSource string

// page is the one HTML page of the sandbox.
type page struct {
	Title   string
	Message string
	Users   []pageUser
	Apps    []App
	Sign    *signInRequest
}

type pageUser struct {
	UserName, DisplayName string
	Groups                []membership
}

// Initial is for the template.
func (u pageUser) Initial() string {
	for _, r := range u.DisplayName {
		return string(r)
	}
	return ""
}

// Name and Direct are for the template.
func (m membership) Name() string { return m.group }

// signInRequest is an authorization request (RFC 6749 section 4.1.1) of a known
// app, to be returned to that app's own address only.
type signInRequest struct {
	App      string
	ClientID string
	Redirect string
	State    string
	origin   string
}

// signInRequest reads and checks the parameters; "" for ok is a fault to show.
func (w *Workspace) signInRequest(params url.Values) (*signInRequest, string) {
	for _, a := range w.listApps() {
		if a.ClientID != params.Get("client_id") {
			continue
		}
		if a.URL == "" || params.Get("redirect_uri") != a.URL+callbackPath {
			return nil, "The address to return to is not that of app " + a.Name + "."
		}
		return &signInRequest{
			App: a.Name, ClientID: a.ClientID, Redirect: a.URL + callbackPath,
			State: params.Get("state"), origin: a.URL,
		}, ""
	}
	return nil, "No app of this workspace has that client id."
}

// authorize answers GET /oidc/v1/authorize: the sign-in page.
func (w *Workspace) authorize(rw http.ResponseWriter, r *http.Request) {
	sign, fault := w.signInRequest(r.URL.Query())
	if fault != "" {
		writePage(rw, http.StatusBadRequest, page{Title: "Cannot sign in", Message: fault}, "")
		return
	}
	people := w.directory.users()
	p := page{Title: "Sign in to " + sign.App, Sign: sign, Users: make([]pageUser, len(people))}
	for i, u := range people {
		p.Users[i] = pageUser{u.name, u.displayName, w.directory.memberships(u.groups)}
	}
	writePage(rw, http.StatusOK, p, sign.origin)
}

// authorized answers the choice of a user on the sign-in page.
func (w *Workspace) authorized(rw http.ResponseWriter, r *http.Request) {
	// The page asks for no password, so another site must not be able to choose.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		writePage(rw, http.StatusForbidden, page{Title: "Cannot sign in", Message: "The request came from another site."}, "")
		return
	}
	r.Body = http.MaxBytesReader(rw, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil {
		writePage(rw, http.StatusBadRequest, page{Title: "Cannot sign in", Message: "The form could not be read."}, "")
		return
	}
	sign, fault := w.signInRequest(r.PostForm)
	if fault != "" {
		writePage(rw, http.StatusBadRequest, page{Title: "Cannot sign in", Message: fault}, "")
		return
	}
	user, ok := w.directory.lookup(r.PostForm.Get("user"))
	if !ok || user.servicePrincipal || user.inactive {
		writePage(rw, http.StatusForbidden, page{Title: "Cannot sign in", Message: "No active user of that name."}, "")
		return
	}
	code := w.codes.issue(sign.App, user.name)
	if code == "" {
		writePage(rw, http.StatusServiceUnavailable, page{Title: "Cannot sign in", Message: "Too many sign-ins at once."}, "")
		return
	}
	query := url.Values{"code": {code}, "state": {sign.State}}
	http.Redirect(rw, r, sign.Redirect+"?"+query.Encode(), http.StatusSeeOther)
}

// home answers / and /login.html with a list of the apps.
func (w *Workspace) home(rw http.ResponseWriter, _ *http.Request) {
	writePage(rw, http.StatusOK, page{Title: "Sign in", Message: "Choose an app to sign in to.", Apps: w.listApps()}, "")
}

// writePage writes the page; formTarget is the origin, beside its own, that its
// form may lead to.
func writePage(rw http.ResponseWriter, status int, p page, formTarget string) {
	h := rw.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Content-Security-Policy",
		"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'self' "+formTarget)
	tmpl, err := template.New("page").Parse(pageSource)
	if err != nil {
		http.Error(rw, "sandbox: page template: "+err.Error(), http.StatusInternalServerError)
		return
	}
	rw.WriteHeader(status)
	_ = tmpl.Execute(rw, p) // a caller that left is no fault of ours
}
