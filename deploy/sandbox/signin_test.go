package sandbox

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestSignInPage(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	if err := ws.setAppURL("ui", "http://127.0.0.1:9"); err != nil {
		t.Fatal(err)
	}
	ui, _ := ws.App("ui")
	query := url.Values{"client_id": {ui.ClientID}, "redirect_uri": {ui.URL + callbackPath}, "state": {`"><script>`}}
	rec := call(ws, "GET", "/oidc/v1/authorize?"+query.Encode(), "")
	body := rec.Body.String()
	if rec.Code != 200 || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("%d %v", rec.Code, rec.Header())
	}
	for _, want := range []string{"SANDBOX", "Sign in to ui", "Alice Doe", "alice@example.com", "bob@example.com", "data-admins", "staff"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "<script") || strings.Contains(body, "robot") {
		t.Errorf("the page has what it must not:\n%s", body)
	}
	if csp := rec.Header().Get("Content-Security-Policy"); !strings.HasSuffix(csp, "form-action 'self' "+ui.URL) {
		t.Errorf("policy %q", csp)
	}
}

func TestSignInReturnsToKnownAppsOnly(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	if err := ws.setAppURL("ui", "http://127.0.0.1:9"); err != nil {
		t.Fatal(err)
	}
	ui, _ := ws.App("ui")
	mw, _ := ws.App("middleware") // without an address as yet
	for name, c := range map[string][2]string{
		"unknown client":     {"x", ui.URL + callbackPath},
		"no client":          {"", ui.URL + callbackPath},
		"elsewhere":          {ui.ClientID, "http://evil.example" + callbackPath},
		"a longer host":      {ui.ClientID, "http://127.0.0.1:9.evil.example" + callbackPath},
		"another path":       {ui.ClientID, ui.URL + "/other"},
		"another app":        {mw.ClientID, ui.URL + callbackPath},
		"app not served yet": {mw.ClientID, callbackPath},
		"none":               {ui.ClientID, ""},
	} {
		form := url.Values{"client_id": {c[0]}, "redirect_uri": {c[1]}, "user": {"bob@example.com"}}
		for _, rec := range []*httptest.ResponseRecorder{
			call(ws, "GET", "/oidc/v1/authorize?"+form.Encode(), ""), postForm(ws, form, ""),
		} {
			if rec.Code != 400 || rec.Header().Get("Location") != "" {
				t.Errorf("%s: %d to %q", name, rec.Code, rec.Header().Get("Location"))
			}
		}
	}
}

func TestSignInChoice(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	if err := ws.setAppURL("ui", "http://127.0.0.1:9"); err != nil {
		t.Fatal(err)
	}
	if err := ws.SetActive("alice@example.com", false); err != nil {
		t.Fatal(err)
	}
	ui, _ := ws.App("ui")
	form := func(user string) url.Values {
		return url.Values{"client_id": {ui.ClientID}, "redirect_uri": {ui.URL + callbackPath}, "state": {"s&t"}, "user": {user}}
	}
	for _, user := range []string{"", "nobody", "robot", "alice@example.com"} {
		if rec := postForm(ws, form(user), ""); rec.Code != 403 {
			t.Errorf("%q: %d", user, rec.Code)
		}
	}
	if rec := postForm(ws, form("bob@example.com"), "http://evil.example"); rec.Code != 403 {
		t.Errorf("from another site: %d", rec.Code)
	}
	rec := postForm(ws, form("bob@example.com"), "")
	to, err := url.Parse(rec.Header().Get("Location"))
	if err != nil || rec.Code != 303 || to.Host != "127.0.0.1:9" || to.Path != callbackPath || to.Query().Get("state") != "s&t" {
		t.Fatalf("%d %v %v", rec.Code, to, err)
	}
	if user, ok := ws.codes.redeem(to.Query().Get("code"), "ui"); !ok || user != "bob@example.com" {
		t.Errorf("%q %t", user, ok)
	}
}

func TestHomeListsTheAppsThatAreServed(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	if err := ws.setAppURL("ui", "http://127.0.0.1:9"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/login.html"} {
		rec := call(ws, "GET", path, "")
		if body := rec.Body.String(); rec.Code != 200 || !strings.Contains(body, `href="http://127.0.0.1:9"`) || strings.Contains(body, "middleware") {
			t.Errorf("%s: %d %s", path, rec.Code, body)
		}
	}
}

func postForm(ws *Workspace, form url.Values, origin string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/oidc/v1/authorize", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	rec := httptest.NewRecorder()
	ws.ServeHTTP(rec, r)
	return rec
}
