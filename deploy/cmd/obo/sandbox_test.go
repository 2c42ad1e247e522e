package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

// A page in a browser gets no token, not even one whose name leads to loopback (DNS rebinding).
func TestSandboxTokensAreForNoPage(t *testing.T) {
	t.Parallel()
	workspace, listener, err := openSandbox("127.0.0.1:0", "--listen", "ui", 0)
	relaytest.Must(t, err)
	defer listener.Close()
	handler := withTokens(workspace, "ui")
	for host, status := range map[string]int{"127.0.0.1:8080": 200, "localhost:8080": 200, "[::1]:8080": 200, "evil.example:8080": 403, "127.0.0.1.evil.example": 403} {
		r := httptest.NewRequest(http.MethodPost, tokenPath, strings.NewReader("user=alice"))
		r.Host = host
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "http://"+host)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != status || status != 200 && strings.Contains(w.Body.String(), "eyJ") {
			t.Errorf("%s: %d %s", host, w.Code, w.Body)
		}
	}
}
