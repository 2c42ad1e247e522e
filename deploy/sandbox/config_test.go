package sandbox

import (
	"strings"
	"testing"
	"time"
)

func TestConfigReportsAllFaults(t *testing.T) {
	_, err := New(Config{
		URL:               "ftp://x",
		TokenLifetime:     -time.Second,
		Users:             []User{{UserName: ""}, {UserName: "a@example.com"}, {UserName: "a@example.com"}},
		ServicePrincipals: []ServicePrincipal{{ClientID: "a b"}},
		Apps: []App{
			{Name: "UI"}, {Name: "ok", URL: "http://h/path"}, {Name: "ok", ClientID: "a@example.com", Scopes: []string{"a b"}},
		},
		Groups: []Group{{}, {Name: "g"}, {Name: "g"}},
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`"ftp://x" is not an http`, "TokenLifetime: -1s is negative", `user: name "" is empty`,
		`user: "a@example.com" is already`, `service principal: name "a b"`, `app: name "UI"`,
		`has more than scheme and host`, `app: "ok" is listed twice`, `service principal: "a@example.com" is already`,
		`scope "a b"`, "group: empty name", `group: "g" is listed twice`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	cfg := Config{}.withDefaults()
	if err := cfg.validate(); err != nil {
		t.Fatal(err)
	}
	if cfg.ID == "" || cfg.URL == "" || cfg.TokenLifetime != time.Hour || cfg.Now == nil || cfg.Log == nil {
		t.Errorf("defaults are missing: %+v", cfg)
	}
}

func TestValidBaseURL(t *testing.T) {
	for s, ok := range map[string]bool{
		"http://127.0.0.1:8000": true, "https://adb-1.2.example": true,
		"": false, "http://": false, "//host": false, "http://h/": false, "http://u@h": false, "http://h?q": false,
		"javascript:alert(1)": false, "http://h h": false,
	} {
		if err := validBaseURL(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}
