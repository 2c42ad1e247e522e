package sandbox

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestGetApp(t *testing.T) {
	ws, err := New(Config{
		Users: []User{{UserName: "alice@example.com"}, {UserName: "eve@example.com"}},
		Apps:  []App{{Name: "ui"}, {Name: "broker", CanUse: []string{"ui", "alice@example.com"}, Instances: 2, URL: "https://broker.example"}, {Name: "open"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ui, _ := ws.App("ui")
	all := TokenOptions{Scopes: []string{ScopeAllAPIs}}
	for _, c := range []struct {
		who, app string
		opts     TokenOptions
		status   int
	}{
		{ui.ClientID, "broker", TokenOptions{}, http.StatusOK}, {"alice@example.com", "broker", all, http.StatusOK},
		{"eve@example.com", "broker", all, http.StatusForbidden}, {"eve@example.com", "open", all, http.StatusOK},
		{"alice@example.com", "broker", TokenOptions{}, http.StatusForbidden}, // no scope for it
		{ui.ClientID, "missing", TokenOptions{}, http.StatusNotFound},
	} {
		r := httptest.NewRequest(http.MethodGet, "/api/2.0/apps/"+c.app, nil)
		r.Header.Set("Authorization", "Bearer "+mustToken(t, ws, c.who, c.opts))
		rec := httptest.NewRecorder()
		ws.ServeHTTP(rec, r)
		body := decode(t, rec.Body)
		if rec.Code != c.status {
			t.Errorf("%s asks for %s: %d %v", c.who, c.app, rec.Code, body)
		}
		if c.app == "broker" && c.status == http.StatusOK &&
			(body["url"] != "https://broker.example" || body["compute_max_instances"] != 2.0 || body["service_principal_client_id"] == "") {
			t.Errorf("%v", body)
		}
	}
}
