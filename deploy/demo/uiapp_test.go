package demo

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

func TestUIAppTellsWhoHasItOpen(t *testing.T) {
	t.Parallel()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set(relay.HeaderEmail, "<b>alice@example.com")
	w := httptest.NewRecorder()
	newUI(ui{}).ServeHTTP(w, r)
	if body := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(body, "<h1>&lt;b&gt;alice@example.com</h1>") {
		t.Errorf("%d %s", w.Code, body)
	}
}
