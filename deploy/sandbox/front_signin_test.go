package sandbox

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestSignInBringsTheBrowserBack(t *testing.T) {
	s := newStage(t, echo(), nil)
	browser := newBrowser(t)
	resp := signIn(t, browser, s.door+"/reports/1?year=2026", "alice@example.com")
	seen := decode(t, resp.Body)
	if seen["Path"] != "/reports/1?year=2026" || seen["X-Forwarded-Email"] != "alice@example.com" {
		t.Errorf("%v", seen)
	}
	// Signed out, someone else may come.
	out := get(t, browser, s.door+"/.auth/logout")
	if !strings.Contains(readAll(t, out), "Sign in to ui") {
		t.Errorf("after logout: %s", out.Request.URL)
	}
	seen = decode(t, signIn(t, browser, s.door+"/", "bob@example.com").Body)
	if seen["X-Forwarded-Email"] != "bob@example.com" {
		t.Errorf("%v", seen)
	}
}

func TestASessionCookieIsNotForScripts(t *testing.T) {
	s := newStage(t, echo(), nil)
	program := newProgram(t)
	resp := get(t, program, s.door+"/")
	to, err := resp.Location()
	if err != nil || resp.StatusCode != http.StatusFound {
		t.Fatal(resp.Status, err)
	}
	for _, cookie := range resp.Cookies() {
		if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" {
			t.Errorf("%v", cookie)
		}
	}
	app, _ := s.ws.App("ui")
	if q := to.Query(); q.Get("client_id") != app.ClientID || q.Get("redirect_uri") != s.door+callbackPath ||
		q.Get("response_type") != "code" || q.Get("scope") != strings.Join(app.Scopes, " ") {
		t.Errorf("%v", q)
	}
}

func TestCallbackRefusesWhatWasNotBegunHere(t *testing.T) {
	s := newStage(t, echo(), nil)
	program := newProgram(t)
	begun := get(t, program, s.door+"/")
	to, err := begun.Location()
	if err != nil {
		t.Fatal(err)
	}
	nonce := begun.Cookies()[0]
	state := to.Query().Get("state")
	good := s.ws.codes.issue("ui", "bob@example.com")
	foreign := s.ws.codes.issue("middleware", "bob@example.com")
	for _, c := range []struct {
		name, state, code, cookie string
		status                    int
	}{
		{"no cookie", state, good, "", 400},
		{"another browser", state, good, "x", 400},
		{"no state", "", good, nonce.Value, 400},
		{"no code", state, "", nonce.Value, 403},
		{"another app's code", state, foreign, nonce.Value, 403},
		{"good", state, good, nonce.Value, 303},
		{"again", state, good, nonce.Value, 403},
	} {
		query := url.Values{"state": {c.state}, "code": {c.code}}
		resp := get(t, program, s.door+callbackPath+"?"+query.Encode(), "Cookie", nonce.Name+"="+c.cookie)
		if resp.StatusCode != c.status || (len(resp.Cookies()) > 0) != (c.status == 303) {
			t.Errorf("%s: %s %v", c.name, resp.Status, resp.Cookies())
		}
	}
}

func TestLocalPath(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "/a/b?c=d": "/a/b?c=d", "/a%2f%2fb": "/a%2f%2fb", "": "/", "x": "/",
		"//evil.example": "/", "/\\evil.example": "/%5Cevil.example", "http://evil.example/a": "/a", "http://evil.example//b.example": "/",
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if in == "//evil.example" { // as a server parses it
			if u, err = url.ParseRequestURI("http://h" + in); err != nil {
				t.Fatal(err)
			}
		}
		if got := localPath(u); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
