package sandbox

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAPIRefusals(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	token := func(o TokenOptions) string { return mustToken(t, ws, "alice@example.com", o) }
	revoked := token(TokenOptions{})
	if err := ws.Revoke(revoked); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token   string
		status  int
		code    any
		message string
	}{
		"none":     {"", 401, 401.0, "Credential was not sent"},
		"invalid":  {"x.y.z", 401, 401.0, "Invalid access token."},
		"revoked":  {revoked, 401, 401.0, "Invalid access token."},
		"expired":  {token(TokenOptions{Lifetime: -time.Second}), 401, 401.0, "Token is expired."},
		"scope":    {token(TokenOptions{Scopes: []string{"sql"}}), 403, "PERMISSION_DENIED", "Provided OAuth token does not have required scopes: iam.current-user:read"},
		"all apis": {token(TokenOptions{Scopes: []string{"all-apis"}}), 200, nil, ""},
	} {
		rec := call(ws, "GET", mePath, c.token)
		body := decode(t, rec.Body)
		message, _ := body["message"].(string)
		id := rec.Header().Get(requestIDHeader)
		if rec.Code != c.status || body["error_code"] != c.code || !strings.HasPrefix(message, c.message) {
			t.Errorf("%s: %d %v", name, rec.Code, body)
		}
		if id == "" || message != "" && !strings.HasSuffix(message, "[ReqId: "+id+"]") {
			t.Errorf("%s: request id %q, message %q", name, id, message)
		}
	}
}

func TestAnInactiveUserIsRefused(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	token := mustToken(t, ws, "bob@example.com", TokenOptions{})
	for _, active := range []bool{false, true} {
		if err := ws.SetActive("bob@example.com", active); err != nil {
			t.Fatal(err)
		}
		want := http.StatusForbidden
		if active {
			want = http.StatusOK
		}
		if rec := call(ws, "GET", mePath, token); rec.Code != want {
			t.Errorf("active %t: %d", active, rec.Code)
		}
	}
}

func TestUnknownAPI(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	rec := call(ws, "GET", "/api/2.0/clusters/list", "")
	if body := decode(t, rec.Body); rec.Code != 404 || body["error_code"] != "ENDPOINT_NOT_FOUND" {
		t.Errorf("%d %v", rec.Code, body)
	}
}

func TestBearer(t *testing.T) {
	for header, want := range map[string]string{
		"": "", "Bearer": "", "Bearer ": "", "Basic abc": "", "Bearer abc": "abc", "bearer abc": "abc",
	} {
		r, _ := http.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", header)
		if got, ok := bearer(r); ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q %t", header, got, ok)
		}
	}
}
