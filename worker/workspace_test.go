package worker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/databricks/databricks-sdk-go/apierr"
	"github.com/databricks/databricks-sdk-go/logger"

	"github.com/obo-relay/obo-relay/relay"
)

const aliceJSON = `{"id":"7","userName":"alice@example.com","displayName":"Alice","active":true,
	"emails":[{"value":"alice@example.com","primary":true}],"groups":[{"display":"users"}]}`

// standIn is a small workspace that keeps what it was asked.
type standIn struct {
	*httptest.Server
	mu    sync.Mutex
	calls []*http.Request
}

func newStandIn(t *testing.T, answer http.HandlerFunc) *standIn {
	t.Helper()
	s := &standIn{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.calls = append(s.calls, r.Clone(context.Background()))
		s.mu.Unlock()
		answer(rw, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *standIn) seen() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.calls...)
}

func answerJSON(status int, body string, headers ...string) http.HandlerFunc {
	return answerAs("application/json", status, body, headers...)
}

func answerAs(contentType string, status int, body string, headers ...string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", contentType)
		for i := 0; i < len(headers); i += 2 {
			rw.Header().Set(headers[i], headers[i+1])
		}
		rw.WriteHeader(status)
		_, _ = rw.Write([]byte(body))
	}
}

// inTurn gives the first answers once each and the last for ever.
func inTurn(answers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		answer := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		mu.Unlock()
		answer(rw, r)
	}
}

func newTestWorkspace(t *testing.T, cfg WorkspaceConfig) *Workspace {
	t.Helper()
	if cfg.RetryTimeout == 0 {
		cfg.RetryTimeout = -1
	}
	w, err := NewWorkspace(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func testJWT(name string, expiry time.Time) string {
	payload := fmt.Sprintf(`{"sub":%q,"exp":%d}`, name, expiry.Unix())
	return "eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2lnbmF0dXJlLW9mLXRoaXMtdG9rZW4"
}

func testToken(t testing.TB, value string) relay.Token {
	t.Helper()
	token, err := relay.NewToken(value)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func aliceToken(t *testing.T) relay.Token {
	t.Helper()
	return testToken(t, testJWT("alice", time.Now().Add(time.Hour)))
}

// hostileEnvironment sets everything that the SDK would take an identity or an address from. other is where all of it
// points to.
func hostileEnvironment(t *testing.T, other string) {
	t.Helper()
	home := t.TempDir()
	file := filepath.Join(home, ".databrickscfg")
	profile := "[DEFAULT]\nhost = " + other + "\ntoken = dapi-of-the-file\n[robot]\nhost = " + other + "\nclient_id = robot\nclient_secret = s\n"
	if err := os.WriteFile(file, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"HOME": home, "DATABRICKS_CONFIG_FILE": file, "DATABRICKS_CONFIG_PROFILE": "robot", "DATABRICKS_HOST": other,
		"DATABRICKS_CLIENT_ID": "robot", "DATABRICKS_CLIENT_SECRET": "secret-of-the-robot", "DATABRICKS_TOKEN": "dapi-of-the-environment",
		"DATABRICKS_AUTH_TYPE": "oauth-m2m", "DATABRICKS_METADATA_SERVICE_URL": other, "DATABRICKS_ACCOUNT_ID": "a", "DATABRICKS_WORKSPACE_ID": "1",
		"DATABRICKS_USERNAME": "u", "DATABRICKS_PASSWORD": "p", "DATABRICKS_DISCOVERY_URL": other, "DATABRICKS_OIDC_TOKEN_ENV": "DATABRICKS_TOKEN",
		"ARM_CLIENT_ID": "arm", "ARM_CLIENT_SECRET": "s", "ARM_TENANT_ID": "t", "ARM_USE_MSI": "true", "GOOGLE_CREDENTIALS": "{}",
		"ACTIONS_ID_TOKEN_REQUEST_URL": other, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x", "DATABRICKS_RATE_LIMIT": "1",
		"DATABRICKS_SDK_UPSTREAM": "environment-was-read", "DATABRICKS_SDK_UPSTREAM_VERSION": "1.0.0",
	} {
		t.Setenv(name, value)
	}
}

func TestMe(t *testing.T) {
	s := newStandIn(t, answerJSON(200, aliceJSON))
	token := aliceToken(t)
	got, err := newTestWorkspace(t, WorkspaceConfig{Host: s.URL}).Me(t.Context(), token)
	want := &User{ID: "7", UserName: "alice@example.com", DisplayName: "Alice", Emails: []string{"alice@example.com"}, Groups: []string{"users"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	calls := s.seen()
	if len(calls) != 1 {
		t.Fatalf("%d calls, want 1", len(calls))
	}
	r := calls[0]
	if r.Method != "GET" || r.URL.Path != "/api/2.0/preview/scim/v2/Me" || r.URL.RawQuery != "excludedAttributes=entitlements" {
		t.Errorf("asked %s %s", r.Method, r.URL)
	}
	if got := r.Header["Authorization"]; len(got) != 1 || got[0] != "Bearer "+token.Reveal() {
		t.Errorf("another Authorization: %d values", len(got))
	}
	if got := r.Header.Get("User-Agent"); got != "obo-worker" {
		t.Errorf("User-Agent is %q", got)
	}
}

// The promise "acting as the wrong principal".
func TestOnlyThePersonEverActs(t *testing.T) {
	other := newStandIn(t, answerJSON(200, `{"access_token":"of-the-robot","token_type":"Bearer"}`))
	hostileEnvironment(t, other.URL)
	s := newStandIn(t, inTurn(answerJSON(200, aliceJSON), answerJSON(401, `{"error_code":401,"message":"no"}`)))
	now := time.Now()
	w := newTestWorkspace(t, WorkspaceConfig{Host: s.URL, Clock: func() time.Time { return now }})

	refused := map[string]struct {
		token relay.Token
		code  relay.Code
	}{
		"missing": {relay.Token{}, relay.CodeTokenMissing},
		"expired": {testToken(t, testJWT("alice", now.Add(-time.Minute))), relay.CodeTokenExpired},
	}
	for _, malformed := range []string{"", " ", "a b", "tok\r\nX: y", "Bearer x", "tokén", "\x00", strings.Repeat("x", relay.MaxToken+1)} {
		token, err := relay.NewToken(malformed)
		if err == nil {
			t.Errorf("%q passes as a token", malformed)
		}
		refused[fmt.Sprintf("malformed %.20q", malformed)] = struct {
			token relay.Token
			code  relay.Code
		}{token, relay.CodeTokenMissing}
	}
	for name, test := range refused {
		if _, err := w.Me(t.Context(), test.token); !errors.Is(err, test.code) {
			t.Errorf("%s: Me gives %v, want %s", name, err, test.code)
		}
		if c, err := w.Client(test.token); !errors.Is(err, test.code) || c != nil {
			t.Errorf("%s: Client gives %v, want %s", name, err, test.code)
		}
	}

	// A client that outlives its token stops with it.
	brief := testToken(t, testJWT("alice", now.Add(time.Minute)))
	c, err := w.Client(brief)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Minute)
	if err := c.Do(t.Context(), "GET", "/api/2.0/x", nil, nil, nil, nil); !errors.Is(err, relay.CodeTokenExpired) {
		t.Errorf("a client whose token has expired gives %v", err)
	}
	if n := len(s.seen()) + len(other.seen()); n != 0 {
		t.Fatalf("%d calls were made without a valid token", n)
	}

	token := testToken(t, testJWT("alice", now.Add(time.Hour)))
	if _, err := w.Me(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	// A token that the workspace refuses is not replaced by another identity either.
	if _, err := w.Me(t.Context(), token); !errors.Is(err, relay.CodeTokenRejected) {
		t.Errorf("got %v", err)
	}
	if c, err = w.Client(token); err != nil {
		t.Fatal(err)
	}
	_ = c.Do(t.Context(), "POST", "/api/2.0/sql/statements", nil, nil, map[string]string{"statement": "SELECT 1"}, nil)
	calls := s.seen()
	if len(calls) != 3 {
		t.Errorf("%d calls, want 3", len(calls))
	}
	for _, r := range calls {
		if got := r.Header["Authorization"]; len(got) != 1 || got[0] != "Bearer "+token.Reveal() {
			t.Errorf("%s carries another Authorization", r.URL.Path)
		}
		if r.Header.Get("X-Databricks-Workspace-Id") != "" || r.Header.Get("User-Agent") != "obo-worker" || strings.HasPrefix(r.URL.Path, "/.well-known") {
			t.Errorf("%s has %q, read from the environment", r.URL.Path, r.Header)
		}
	}
	if n := len(other.seen()); n != 0 {
		t.Errorf("%d calls to where the environment points", n)
	}
}

func TestTokensOfTwoPeopleStayApart(t *testing.T) {
	s := newStandIn(t, func(rw http.ResponseWriter, r *http.Request) {
		payload, _ := base64.RawURLEncoding.DecodeString(strings.Split(r.Header.Get("Authorization"), ".")[1])
		name := strings.Split(string(payload), `"`)[3]
		answerJSON(200, fmt.Sprintf(`{"id":%q,"userName":%q}`, name, name))(rw, r)
	})
	w := newTestWorkspace(t, WorkspaceConfig{Host: s.URL})
	var group sync.WaitGroup
	for i := range 40 {
		name := fmt.Sprintf("person-%d", i%4)
		token := testToken(t, testJWT(name, time.Now().Add(time.Hour)))
		group.Go(func() {
			if u, err := w.Me(t.Context(), token); err != nil || u.ID != name {
				t.Errorf("%s got %+v, %v", name, u, err)
			}
		})
	}
	group.Wait()
}

func TestMeFaults(t *testing.T) {
	const id = "5f3c0de1-0000-4000-8000-00000000abcd"
	apiError := func(message string) string { return fmt.Sprintf(`{"error_code":"X","message":%q}`, message) }
	tests := map[string]struct {
		answer http.HandlerFunc
		code   relay.Code
		detail string
		after  time.Duration
	}{
		"401":                 {answer: answerJSON(401, apiError("Credential was not sent")), code: relay.CodeTokenRejected, detail: "answered 401"},
		"401 HTML":            {answer: answerAs("text/html", 401, "<html>"), code: relay.CodeTokenRejected},
		"401 empty":           {answer: answerAs("", 401, ""), code: relay.CodeTokenRejected},
		"403 invalid token":   {answer: answerJSON(403, `{"error_code":403,"message":"Invalid access token."}`), code: relay.CodeTokenRejected},
		"400 wrong audience":  {answer: answerJSON(400, apiError("io.jsonwebtoken.IncorrectClaimException: Expected aud claim to be: x")), code: relay.CodeTokenRejected},
		"403":                 {answer: answerJSON(403, apiError("User is not a member")), code: relay.CodeForbidden},
		"403 scope":           {answer: answerJSON(403, apiError("Provided OAuth token does not have required scopes: iam.current-user:read [ReqId: "+id+"]")), code: relay.CodeScopeMissing, detail: "lacks the scope iam.current-user:read"},
		"403 scopes":          {answer: answerJSON(403, apiError("Provided OAuth token does not have required scopes: sql, unity-catalog")), code: relay.CodeScopeMissing, detail: "one of the scopes sql, unity-catalog"},
		"403 scope unnamed":   {answer: answerJSON(403, apiError("insufficient_scope")), code: relay.CodeScopeMissing, detail: "lacks a scope"},
		"403 RFC 6750":        {answer: answerJSON(403, `{}`, "WWW-Authenticate", `Bearer error="insufficient_scope", scope="sql"`), code: relay.CodeScopeMissing, detail: "lacks the scope sql"},
		"403 scope not a one": {answer: answerJSON(403, apiError("Provided OAuth token does not have required scopes: <script>\r\nX: "+strings.Repeat("a", 999))), code: relay.CodeScopeMissing, detail: "lacks a scope"},
		"403 HTML":            {answer: answerAs("text/html; charset=utf-8", 403, "<html>blocked by a firewall"), code: relay.CodeWorkspaceDown, detail: "HTML"},
		"404":                 {answer: answerJSON(404, apiError("no such API")), code: relay.CodeWorkspaceDown, detail: "404"},
		"429":                 {answer: answerJSON(429, apiError("slow down"), "Retry-After", "17"), code: relay.CodeRateLimited, after: 17 * time.Second},
		"500":                 {answer: answerJSON(500, apiError("boom")), code: relay.CodeWorkspaceDown, detail: "500"},
		"503":                 {answer: answerJSON(503, apiError("no webapps"), "Retry-After", "3"), code: relay.CodeWorkspaceDown, after: 3 * time.Second},
		"503 HTML":            {answer: answerAs("text/html", 503, "<html>", "Retry-After", "3"), code: relay.CodeWorkspaceDown, detail: "HTML"},
		"request id":          {answer: answerJSON(500, apiError("boom"), "X-Databricks-Request-Id", id), code: relay.CodeWorkspaceDown, detail: "(workspace request " + id + ")"},
		"request id too long": {answer: answerJSON(500, apiError("boom"), "X-Databricks-Request-Id", strings.Repeat("a", 65)), code: relay.CodeWorkspaceDown, detail: "answered 500"},
		"HTML":                {answer: answerAs("text/html", 200, "<html>Sign in"), code: relay.CodeWorkspaceDown, detail: "HTML page instead of JSON"},
		"HTML as JSON":        {answer: answerJSON(200, "<html>"), code: relay.CodeWorkspaceDown, detail: "cannot be read"},
		"not JSON":            {answer: answerJSON(200, `{"id":`), code: relay.CodeWorkspaceDown, detail: "cannot be read"},
		"nobody":              {answer: answerJSON(200, `{}`), code: relay.CodeWorkspaceDown, detail: "names no user"},
		"no body":             {answer: answerJSON(200, ``), code: relay.CodeWorkspaceDown},
		"204":                 {answer: answerJSON(204, ``), code: relay.CodeWorkspaceDown},
		"cut off": {answer: func(rw http.ResponseWriter, r *http.Request) {
			answerJSON(200, aliceJSON, "Content-Length", "9999")(rw, r)
		}, code: relay.CodeWorkspaceDown},
		"reset": {answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, code: relay.CodeWorkspaceDown, detail: "broke off"},
		"endless": {answer: func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			for err := error(nil); err == nil; {
				_, err = rw.Write(make([]byte, 1<<20))
			}
		}, code: relay.CodeWorkspaceDown, detail: "over 32 MiB"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStandIn(t, test.answer)
			u, err := newTestWorkspace(t, WorkspaceConfig{Host: s.URL}).Me(t.Context(), aliceToken(t))
			if u != nil || !errors.Is(err, test.code) {
				t.Fatalf("got %+v, %v, want %s", u, err, test.code)
			}
			e := relay.AsError(err)
			if !strings.Contains(e.Detail, test.detail) || e.After != test.after || len(e.Detail) > 400 {
				t.Errorf("got %q after %v, want %q after %v", e.Detail, e.After, test.detail, test.after)
			}
			if n := len(s.seen()); n != 1 {
				t.Errorf("%d calls, want 1", n)
			}
		})
	}
}

func TestEchoes(t *testing.T) {
	token := testToken(t, testJWT("alice", time.Now().Add(time.Hour)))
	parts := strings.Split(token.Reveal(), ".")
	for word, want := range map[string]bool{
		token.Reveal(): true, "x" + token.Reveal(): true, token.Reveal()[5:20]: true, "x" + parts[1]: true, parts[0] + "M" + parts[2]: true,
		parts[0] + "M": false, parts[1][:7]: false, "5f3c0de1-0000-4000-8000-00000000abcd": false, "": false,
	} {
		if echoes(token, word) != want {
			t.Errorf("%q: want %v", word, want)
		}
	}
	if echoes(relay.Token{}, "anything") {
		t.Error("no token is echoed")
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	evil := newStandIn(t, answerJSON(200, aliceJSON))
	tests := map[string]struct {
		status   int
		location string
		code     relay.Code
	}{
		"sign-in":            {302, "/login.html?next_url=%2Fapi", relay.CodeTokenRejected},
		"sign-in elsewhere":  {302, evil.URL + "/oidc/oauth2/v2.0/authorize?client_id=x", relay.CodeTokenRejected},
		"private link":       {302, "/login.html?error=private-link-validation-error:123", relay.CodeWorkspaceDown},
		"another host, 302":  {302, evil.URL + "/api/2.0/preview/scim/v2/Me", relay.CodeWorkspaceDown},
		"another host, 307":  {307, evil.URL + "/api/2.0/preview/scim/v2/Me", relay.CodeWorkspaceDown},
		"another host, 308":  {308, "//" + strings.TrimPrefix(evil.URL, "http://") + "/x", relay.CodeWorkspaceDown},
		"itself":             {301, "/api/2.0/preview/scim/v2/Me/", relay.CodeWorkspaceDown},
		"no location":        {302, "", relay.CodeWorkspaceDown},
		"unreadable":         {303, "http://[::bad", relay.CodeWorkspaceDown},
		"not modified":       {304, "", relay.CodeWorkspaceDown},
		"multiple locations": {300, evil.URL, relay.CodeWorkspaceDown},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newStandIn(t, func(rw http.ResponseWriter, _ *http.Request) {
				if test.location != "" {
					rw.Header()["Location"] = []string{test.location}
				}
				rw.WriteHeader(test.status)
			})
			w := newTestWorkspace(t, WorkspaceConfig{Host: s.URL, RetryTimeout: time.Second})
			if u, err := w.Me(t.Context(), aliceToken(t)); u != nil || !errors.Is(err, test.code) {
				t.Errorf("got %+v, %v, want %s", u, err, test.code)
			}
			c, err := w.Client(aliceToken(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Do(t.Context(), "POST", "/api/2.0/x", nil, nil, map[string]int{"a": 1}, nil); err == nil {
				t.Error("POST followed")
			}
			if n := len(s.seen()); n != 2 {
				t.Errorf("%d calls, want 2", n)
			}
		})
	}
	if n := len(evil.seen()); n != 0 {
		t.Errorf("%d calls reached the other host", n)
	}
}

func TestGuardKeepsToItsHost(t *testing.T) {
	evil, s := newStandIn(t, answerJSON(200, `{}`)), newStandIn(t, answerJSON(200, `{}`))
	w := newTestWorkspace(t, WorkspaceConfig{Host: s.URL})
	for _, to := range []string{evil.URL, "https" + strings.TrimPrefix(s.URL, "http")} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", to, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := w.guard.RoundTrip(r); err == nil {
			_ = resp.Body.Close()
			t.Errorf("a call to %s went through", to)
		}
	}
	// The SDK puts its own host into whatever path it is given.
	c, err := w.Client(aliceToken(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{evil.URL + "/x", "//" + strings.TrimPrefix(evil.URL, "http://") + "/x"} {
		_ = c.Do(t.Context(), "GET", path, nil, nil, nil, nil)
	}
	if n := len(evil.seen()); n != 0 {
		t.Errorf("%d calls reached the other host", n)
	}
}

func TestRetries(t *testing.T) {
	unavailable := answerJSON(503, `{"error_code":"TEMPORARILY_UNAVAILABLE","message":"connection refused, REQUEST_LIMIT_EXCEEDED"}`)
	reset := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	fine := answerJSON(200, aliceJSON)
	tests := map[string]struct {
		method  string
		answer  http.HandlerFunc
		calls   int // 0 = more than one, within the bound
		succeed bool
	}{
		"GET, burst of 503":         {"GET", inTurn(unavailable, unavailable, fine), 3, true},
		"GET, 429, 502, 504":        {"GET", inTurn(answerJSON(429, `{}`), answerJSON(502, `{}`), answerJSON(504, `{}`), fine), 4, true},
		"GET, resets":               {"GET", inTurn(reset, reset, fine), 3, true},
		"GET, 503 for ever":         {"GET", unavailable, 0, false},
		"GET, Retry-After too long": {"GET", answerJSON(429, `{}`, "Retry-After", "60"), 1, false},
		"GET, 500":                  {"GET", answerJSON(500, `{"message":"REQUEST_LIMIT_EXCEEDED"}`), 1, false},
		"POST, burst of 503":        {"POST", inTurn(unavailable, unavailable, fine), 1, false},
		"POST, 429":                 {"POST", inTurn(answerJSON(429, `{}`), fine), 1, false},
		"POST, 500 by its words":    {"POST", inTurn(answerJSON(500, `{"message":"REQUEST_LIMIT_EXCEEDED"}`), fine), 1, false},
		"POST, reset":               {"POST", inTurn(reset, fine), 1, false},
		"PUT, reset":                {"PUT", inTurn(reset, fine), 1, false},
		"PATCH, 503":                {"PATCH", inTurn(unavailable, fine), 1, false},
		"DELETE, 503":               {"DELETE", inTurn(unavailable, fine), 1, false},
		"DELETE, reset":             {"DELETE", inTurn(reset, fine), 1, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStandIn(t, test.answer)
			w := newTestWorkspace(t, WorkspaceConfig{Host: s.URL, RetryTimeout: 3 * time.Second})
			if test.calls == 0 {
				w = newTestWorkspace(t, WorkspaceConfig{Host: s.URL, RetryTimeout: 300 * time.Millisecond})
			}
			c, err := w.Client(aliceToken(t))
			if err != nil {
				t.Fatal(err)
			}
			var body any
			if test.method != "GET" && test.method != "DELETE" {
				body = map[string]string{"statement": "INSERT"}
			}
			began := time.Now()
			err = c.Do(t.Context(), test.method, "/api/2.0/x", map[string]string{"Accept": "application/json"}, nil, body, nil)
			if (err == nil) != test.succeed {
				t.Errorf("got %v", err)
			}
			n := len(s.seen())
			if test.calls != 0 && n != test.calls || test.calls == 0 && (n < 2 || n > 8) {
				t.Errorf("%d calls, want %d", n, test.calls)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestOwnTransportSpeaksHTTP2(t *testing.T) {
	protocols := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		protocols <- r.Proto
		answerJSON(200, aliceJSON)(rw, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	w := newTestWorkspace(t, WorkspaceConfig{Host: server.URL})
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	w.own.TLSClientConfig = &tls.Config{RootCAs: roots}
	if _, err := w.Me(t.Context(), aliceToken(t)); err != nil {
		t.Fatal(err)
	}
	if got := <-protocols; got != "HTTP/2.0" {
		t.Errorf("speaks %s", got)
	}
}

func TestMeRetriesWithinItsBound(t *testing.T) {
	s := newStandIn(t, inTurn(answerJSON(503, `{}`), answerJSON(503, `{}`), answerJSON(200, aliceJSON)))
	if u, err := newTestWorkspace(t, WorkspaceConfig{Host: s.URL, RetryTimeout: 5 * time.Second}).Me(t.Context(), aliceToken(t)); err != nil || u.ID != "7" {
		t.Errorf("got %+v, %v", u, err)
	}
	down := newStandIn(t, answerJSON(503, `{}`))
	began := time.Now()
	_, err := newTestWorkspace(t, WorkspaceConfig{Host: down.URL, RetryTimeout: 200 * time.Millisecond}).Me(t.Context(), aliceToken(t))
	if took := time.Since(began); !errors.Is(err, relay.CodeWorkspaceDown) || took > 5*time.Second {
		t.Errorf("got %v after %v", err, took)
	}
}

func TestMeUnreachable(t *testing.T) {
	closed := newStandIn(t, answerJSON(200, aliceJSON))
	closed.Close()
	untrusted := httptest.NewUnstartedServer(answerJSON(200, aliceJSON))
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	speaksOther := newStandIn(t, func(rw http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err == nil {
			_, _ = conn.Write([]byte("220 smtp.example.com ESMTP echo-of-something\r\n"))
			_ = conn.Close()
		}
	})
	tests := map[string]struct{ host, want string }{
		"nobody listens":        {closed.URL, "refused the connection"},
		"certificate untrusted": {untrusted.URL, "certificate is not trusted"},
		"not HTTP":              {speaksOther.URL, "cannot be reached, or does not speak HTTP"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := newTestWorkspace(t, WorkspaceConfig{Host: test.host}).Me(t.Context(), aliceToken(t))
			if !errors.Is(err, relay.CodeWorkspaceDown) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestMeEndsWithItsContext(t *testing.T) {
	silent := newStandIn(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	down := newStandIn(t, answerJSON(503, `{}`))
	tests := map[string]struct {
		host string
		ctx  func() (context.Context, context.CancelFunc)
		code relay.Code
		is   error
	}{
		"cancelled while it waits": {silent.URL, func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}, relay.CodeCanceled, context.Canceled},
		"deadline while it waits": {silent.URL, func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 50*time.Millisecond)
		}, relay.CodeWorkspaceDown, context.DeadlineExceeded},
		"cancelled before a retry": {down.URL, func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(150*time.Millisecond, cancel)
			return ctx, cancel
		}, relay.CodeCanceled, context.Canceled},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := test.ctx()
			defer cancel()
			began := time.Now()
			_, err := newTestWorkspace(t, WorkspaceConfig{Host: test.host, RetryTimeout: time.Minute}).Me(ctx, aliceToken(t))
			if !errors.Is(err, test.code) || !errors.Is(err, test.is) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	_, err := newTestWorkspace(t, WorkspaceConfig{Host: silent.URL, Timeout: 50 * time.Millisecond}).Me(t.Context(), aliceToken(t))
	if !errors.Is(err, relay.CodeWorkspaceDown) || !strings.Contains(err.Error(), "no sign of life") {
		t.Errorf("silence gives %v", err)
	}
}

// A workspace, or what stands in its place, that sends the token back in every field must not get it into an error.
func TestErrorsHoldNoToken(t *testing.T) {
	opaque := "0123456789abcdef-0123456789-abcdef"
	for _, value := range []string{testJWT("alice", time.Now().Add(time.Hour)), opaque} {
		token := testToken(t, value)
		for _, status := range []int{200, 302, 400, 401, 403, 404, 429, 500, 503} {
			for _, message := range []string{value, "required scopes: " + value, "required scopes: " + value[:20], value[len(value)-12:]} {
				s := newStandIn(t, func(rw http.ResponseWriter, r *http.Request) {
					h := rw.Header()
					for _, name := range []string{"X-Databricks-Request-Id", "X-Request-Id", "Location", "Retry-After", "WWW-Authenticate", "X-Databricks-Reason-Phrase"} {
						h.Set(name, message)
					}
					answerJSON(status, fmt.Sprintf(`{"error_code":%q,"message":%q,"detail":%q`, message, message, message))(rw, r)
				})
				_, err := newTestWorkspace(t, WorkspaceConfig{Host: s.URL}).Me(t.Context(), token)
				if err == nil {
					t.Fatal("no error")
				}
				text := fmt.Sprintf("%v %+v %#v %s", err, err, err, relay.AsError(err).Problem().Detail)
				for i := 0; i+12 <= len(value); i++ {
					if strings.Contains(text, value[i:i+12]) {
						t.Fatalf("status %d: a part of the token is in %q", status, text)
					}
				}
			}
		}
	}
}

func TestClientPrintsNoToken(t *testing.T) {
	s := newStandIn(t, answerJSON(403, `{"error_code":"X","message":"no"}`))
	token := aliceToken(t)
	c, err := newTestWorkspace(t, WorkspaceConfig{Host: s.URL}).Client(token)
	if err != nil {
		t.Fatal(err)
	}
	recorded := &recordingLogger{}
	err = c.Do(logger.NewContext(t.Context(), recorded), "GET", "/api/2.0/x", nil, nil, nil, nil)
	if _, ok := errors.AsType[*apierr.APIError](err); !ok {
		t.Errorf("got %v, want the SDK's own error", err)
	}
	text := fmt.Sprintf("%v %+v %#v %s %s", c.Config.Credentials, c.Config.Credentials, c.Config.Credentials, c.Config.Token, recorded.all())
	if !strings.Contains(text, "/api/2.0/x") {
		t.Error("the SDK logged nothing, so this test proves nothing")
	}
	if strings.Contains(text, token.Reveal()) {
		t.Error("the token is printed")
	}
}

// recordingLogger keeps everything the SDK would log at its most talkative.
type recordingLogger struct {
	mu    sync.Mutex
	lines []string
}

func (l *recordingLogger) add(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, v...))
}

func (l *recordingLogger) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func (l *recordingLogger) Enabled(context.Context, logger.Level) bool        { return true }
func (l *recordingLogger) Tracef(_ context.Context, format string, v ...any) { l.add(format, v...) }
func (l *recordingLogger) Debugf(_ context.Context, format string, v ...any) { l.add(format, v...) }
func (l *recordingLogger) Infof(_ context.Context, format string, v ...any)  { l.add(format, v...) }
func (l *recordingLogger) Warnf(_ context.Context, format string, v ...any)  { l.add(format, v...) }
func (l *recordingLogger) Errorf(_ context.Context, format string, v ...any) { l.add(format, v...) }

func TestNewWorkspaceHost(t *testing.T) {
	tests := map[string]struct{ host, want, fault string }{
		"bare":             {host: "adb-1.2.azuredatabricks.net", want: "https://adb-1.2.azuredatabricks.net"},
		"https":            {host: "https://adb-1.2.azuredatabricks.net", want: "https://adb-1.2.azuredatabricks.net"},
		"slash":            {host: "https://adb-1.2.azuredatabricks.net/", want: "https://adb-1.2.azuredatabricks.net"},
		"port":             {host: "workspace.example.com:8443", want: "https://workspace.example.com:8443"},
		"loopback":         {host: "http://127.0.0.1:8080", want: "http://127.0.0.1:8080"},
		"loopback, IPv6":   {host: "http://[::1]:8080", want: "http://[::1]:8080"},
		"localhost":        {host: "http://localhost:8080", want: "http://localhost:8080"},
		"empty":            {fault: "address is missing"},
		"http":             {host: "http://adb-1.2.azuredatabricks.net", fault: "write https"},
		"http, look-alike": {host: "http://127.0.0.1.example.com", fault: "write https"},
		"query":            {host: "https://x.example.com/?o=1", fault: "more than a host"},
		"path":             {host: "https://x.example.com/api", fault: "more than a host"},
		"fragment":         {host: "https://x.example.com#a", fault: "more than a host"},
		"scheme":           {host: "ftp://x.example.com", fault: `scheme "ftp"`},
		"password":         {host: "https://user:hunter2@x.example.com", fault: "password, remove it"},
		"no host":          {host: "https://:443", fault: "no host name"},
		"unreadable":       {host: "https://hunter2\x00@", fault: "cannot be read"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w, err := NewWorkspace(WorkspaceConfig{Host: test.host})
			if test.fault != "" {
				if err == nil || !strings.Contains(err.Error(), test.fault) || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("got %v, want %q", err, test.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			c, err := w.Client(aliceToken(t))
			if err != nil || c.Config.Host != test.want {
				t.Errorf("got %v, %v, want %s", c, err, test.want)
			}
			w.Close()
		})
	}
	_, err := NewWorkspace(WorkspaceConfig{Host: "ftp://x", Timeout: -1, UserAgent: "a\nb"})
	for _, want := range []string{"scheme", "Timeout", "UserAgent"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not among the faults: %v", want, err)
		}
	}
}

func TestCheckEnvironment(t *testing.T) {
	for value, refuse := range map[string]bool{"": false, "0": false, "false": false, "False": false, " no ": false, "off": false, "1": true, "true": true, "TRUE": true, "yes": true, "?": true} {
		err := checkEnvironment(func(name string) string {
			if name == "DATABRICKS_DEBUG_HEADERS" {
				return value
			}
			return "1"
		})
		if (err != nil) != refuse {
			t.Errorf("%q gives %v", value, err)
		}
	}
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-1": 0, "1.5": 0, "x": 0, "99999999999999999999": 0, "4294967295": 24 * time.Hour,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second, "Fri, 02 Jan 2026 03:04:00 GMT": 0,
	} {
		if got := parseRetryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q gives %v, want %v", value, got, want)
		}
	}
}

func BenchmarkClient(b *testing.B) {
	w, err := NewWorkspace(WorkspaceConfig{Host: "workspace.example.com"})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	token, err := relay.NewToken(testJWT("alice", time.Now().Add(time.Hour)))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Client(token); err != nil {
			b.Fatal(err)
		}
	}
}
