package relay

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestUnguessed(t *testing.T) {
	for set, want := range map[string]string{"": "", "text/x": "text/x"} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w = Unguessed(w)
			w.WriteHeader(http.StatusEarlyHints)
			if set != "" {
				w.Header().Set("Content-Type", set)
			}
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, "<html>")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
		}))
		defer server.Close()
		resp, err := server.Client().Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); got != want {
			t.Errorf("set %q: got %q", set, got)
		}
	}
}
