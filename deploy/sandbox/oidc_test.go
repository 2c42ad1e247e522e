package sandbox

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

func postToken(ws *Workspace, form url.Values, basic ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/oidc/v1/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if len(basic) == 2 {
		r.SetBasicAuth(basic[0], basic[1])
	}
	rec := httptest.NewRecorder()
	ws.ServeHTTP(rec, r)
	return rec
}

func TestClientCredentials(t *testing.T) {
	ws, clock := newTestWorkspace(t)
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"all-apis"}}
	inForm := url.Values{"grant_type": {"client_credentials"}, "client_id": {"robot"}, "client_secret": {"robot-secret"}}
	for name, rec := range map[string]*httptest.ResponseRecorder{
		"basic": postToken(ws, form, "robot", "robot-secret"), "form": postToken(ws, inForm),
	} {
		body := decode(t, rec.Body)
		if rec.Code != 200 || body["token_type"] != "Bearer" || body["expires_in"] != 3600.0 || body["scope"] != "all-apis" {
			t.Fatalf("%s: %d %v", name, rec.Code, body)
		}
		c, err := ws.mint.check(body["access_token"].(string), ws.ID())
		if err != nil || c.Subject != "robot" || c.ClientID != "robot" || c.Expiry != clock.Now().Add(time.Hour).Unix() {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
	if n := ws.Calls().ByServicePrincipals().To("/oidc/").Count(); n != 2 {
		t.Errorf("%d calls of the service principal counted", n)
	}
}

func TestClientCredentialsRefused(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	form := url.Values{"grant_type": {"client_credentials"}}
	for name, basic := range map[string][]string{
		"wrong secret": {"robot", "x"}, "no secret": {"robot", ""}, "nobody": {"x", "x"},
		"a person": {"alice@example.com", ""}, "nothing": nil,
	} {
		rec := postToken(ws, form, basic...)
		if body := decode(t, rec.Body); rec.Code != 401 || body["error"] != "invalid_client" || body["error_id"] == "" {
			t.Errorf("%s: %d %v", name, rec.Code, body)
		}
	}
	if rec := postToken(ws, url.Values{"grant_type": {"password"}}); rec.Code != 400 {
		t.Errorf("another grant: %d", rec.Code)
	}
	if rec := postToken(ws, url.Values{"grant_type": {strings.Repeat("x", 100<<10)}}); rec.Code != 400 {
		t.Errorf("a large form: %d", rec.Code)
	}
}

func TestTokenExchangeFailsAsItDidForTheUser(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	app, _ := ws.App("middleware")
	rec := postToken(ws, url.Values{
		"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token":      {mustToken(t, ws, "alice@example.com", TokenOptions{App: "ui"})},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"},
	}, app.ClientID, app.ClientSecret)
	want := "Client authentication failed: user '" + app.ClientID + "' is not a member of workspace"
	if body := decode(t, rec.Body); rec.Code != http.StatusForbidden || body["error_description"] != want {
		t.Errorf("%d %v", rec.Code, body)
	}
}

func TestDiscoveryLeadsToTheKeyOfTheTokens(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	meta := decode(t, call(ws, "GET", "/oidc/.well-known/oauth-authorization-server", "").Body)
	host := decode(t, call(ws, "GET", "/.well-known/databricks-config", "").Body)
	if meta["token_endpoint"] != ws.URL()+"/oidc/v1/token" || host["oidc_endpoint"] != meta["issuer"] || host["workspace_id"] != ws.ID() {
		t.Errorf("%v\n%v", meta, host)
	}
	body := call(ws, "GET", strings.TrimPrefix(meta["jwks_uri"].(string), ws.URL()), "").Body.String()
	if strings.Contains(body, `"d"`) {
		t.Fatal("the private key is published")
	}
	var keys jose.JSONWebKeySet
	decodeInto(t, body, &keys)
	parsed, err := jwt.ParseSigned(mustToken(t, ws, "bob@example.com", TokenOptions{}), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var c claims
	if err := parsed.Claims(keys, &c); err != nil || c.Subject != "bob@example.com" {
		t.Errorf("%+v %v", c, err)
	}
}
