package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestTokenHasThePlatformsClaims(t *testing.T) {
	ws, clock := newTestWorkspace(t)
	token := mustToken(t, ws, "alice@example.com", TokenOptions{App: "ui"})
	app, _ := ws.App("ui")

	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	var header, got map[string]any
	for i, v := range []*map[string]any{&header, &got} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, v); err != nil {
			t.Fatal(err)
		}
	}
	if header["alg"] != "ES256" || header["typ"] != "at+jwt" || header["kid"] == "" {
		t.Errorf("header %v", header)
	}
	now := float64(clock.Now().Unix())
	for name, want := range map[string]any{
		"sub": "alice@example.com", "client_id": app.ClientID, "aud": ws.ID(), "iss": ws.URL() + "/oidc",
		"scope": "iam.current-user:read iam.access-control:read sql", "iat": now, "exp": now + 3600,
	} {
		if got[name] != want {
			t.Errorf("%s: got %v, want %v", name, got[name], want)
		}
	}
	if got["jti"] == "" || got["jti"] == nil {
		t.Error("no jti")
	}
}

func TestTokenOptions(t *testing.T) {
	ws, clock := newTestWorkspace(t)
	read := func(principal string, opts TokenOptions) claims {
		t.Helper()
		c, err := ws.mint.read(mustToken(t, ws, principal, opts), ws.ID())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := read("bob@example.com", TokenOptions{}); c.ClientID != "databricks-cli" || c.has("sql") || !c.has(ScopeCurrentUserRead) {
		t.Errorf("default: %+v", c)
	}
	if c := read("robot", TokenOptions{}); c.ClientID != "robot" || c.Scope != ScopeAllAPIs || !c.has("anything") {
		t.Errorf("service principal: %+v", c)
	}
	if c := read("bob@example.com", TokenOptions{Scopes: []string{}}); c.Scope != "" {
		t.Errorf("no scopes: %+v", c)
	}
	if c := read("bob@example.com", TokenOptions{Lifetime: time.Minute}); c.Expiry != clock.Now().Unix()+60 {
		t.Errorf("a minute: %+v", c)
	}
	if c := read("bob@example.com", TokenOptions{Lifetime: -time.Minute}); !c.expired(clock.Now()) || c.IssuedAt >= c.Expiry {
		t.Errorf("expired at birth: %+v", c)
	}
	if _, err := ws.Token("nobody", TokenOptions{}); err == nil {
		t.Error("a token for nobody")
	}
	if _, err := ws.Token("bob@example.com", TokenOptions{App: "none"}); err == nil {
		t.Error("a token for no app")
	}
}

func TestTokenIsRefused(t *testing.T) {
	ws, clock := newTestWorkspace(t)
	other, _ := newTestWorkspace(t)
	good := mustToken(t, ws, "bob@example.com", TokenOptions{})
	gone := mustToken(t, ws, "bob@example.com", TokenOptions{Lifetime: 30 * time.Minute})
	if err := ws.Revoke(gone); err != nil {
		t.Fatal(err)
	}
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(good, ".")[1] + "."
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"good":                {good, nil},
		"garbage":             {"garbage", errTokenInvalid},
		"unsigned":            {unsigned, errTokenInvalid},
		"another workspace's": {mustToken(t, other, "bob@example.com", TokenOptions{}), errTokenInvalid},
		"expired":             {mustToken(t, ws, "bob@example.com", TokenOptions{Lifetime: -time.Second}), errTokenExpired},
		"revoked":             {gone, errTokenInvalid},
	} {
		if _, err := ws.mint.check(c.token, ws.ID()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ws.mint.check(good, "another"); !errors.Is(err, errTokenInvalid) {
		t.Errorf("another audience: %v", err)
	}

	clock.Advance(time.Hour - time.Second)
	if _, err := ws.mint.check(good, ws.ID()); err != nil {
		t.Errorf("a second before: %v", err)
	}
	clock.Advance(time.Second)
	if _, err := ws.mint.check(good, ws.ID()); !errors.Is(err, errTokenExpired) {
		t.Errorf("at expiry: %v", err)
	}
	if err := ws.Revoke("garbage"); err == nil {
		t.Error("revoked garbage")
	}
	// The list of revoked tokens forgets those that expired anyway.
	if err := ws.Revoke(mustToken(t, ws, "bob@example.com", TokenOptions{})); err != nil {
		t.Fatal(err)
	}
	if n := len(ws.mint.revoked); n != 1 {
		t.Errorf("%d revoked tokens remembered", n)
	}
}
