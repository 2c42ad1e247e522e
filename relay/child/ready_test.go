package child

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestReadinessValidate(t *testing.T) {
	t.Parallel()
	if err := (Readiness{Path: "/health", Timeout: time.Second}).Validate(); err != nil {
		t.Error(err)
	}
	err := Readiness{Path: "health", Timeout: -1}.Validate()
	for _, want := range []string{"--ready-path (OBO_READY_PATH)", "--ready-timeout (OBO_READY_TIMEOUT)"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}

func TestReadinessAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"http://127.0.0.1:8000": "127.0.0.1:8000",
		"http://localhost":      "localhost:http",
		"https://[::1]":         "[::1]:https",
		"https://[::1]:8443/":   "[::1]:8443",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := (Readiness{URL: u}).address(); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
