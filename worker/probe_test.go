package worker

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestProbeShowsTheTokenToNobody(t *testing.T) {
	ask := func(method, query, token string) (int, string) {
		r := httptest.NewRequest(method, ProbePathAPI+query, nil)
		if token != "" {
			r.Header.Set("X-Forwarded-Access-Token", token)
		}
		w := httptest.NewRecorder()
		Probe(w, r)
		return w.Code, w.Body.String()
	}
	const salt = "0123456789abcdef"
	status, body := ask("GET", "?salt="+salt, "TOKEN")
	var said ProbeAnswer
	if err := json.Unmarshal([]byte(body), &said); err != nil || status != 200 || !said.Present || said.Hash != HashToken(salt, "TOKEN") || strings.Contains(body, "TOKEN") {
		t.Error(status, body, err)
	}
	// As five lines of Python have it: hmac.new(b"0123456789abcdef", b"TOKEN", "sha256").hexdigest()
	if said.Hash != "99a89e29d28e4ed8858cdab36c7cf81fe91740a056fbbb3dff94b53132a9ba7e" {
		t.Error(said.Hash)
	}
	if status, body := ask("GET", "?salt="+salt, ""); status != 200 || !strings.HasPrefix(body, `{"present":false,`) {
		t.Error(status, body)
	}
	for query, method := range map[string]string{"": "GET", "?salt=short": "GET", "?salt=" + strings.Repeat("x", 129): "GET", "?salt=" + salt: "POST"} {
		if status, body := ask(method, query, "TOKEN"); status != http.StatusBadRequest {
			t.Error(method, query, status, body)
		}
	}
}

// Somebody without a token asks it, so it stands before every check, and the app never hears of it.
func TestFrontAnswersTheProbeItself(t *testing.T) {
	s := newStage(t, nil, nil, nil)
	for _, path := range []string{ProbePath, ProbePathAPI} {
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(httptest.NewRequestWithContext(t.Context(), "GET", "http://"+s.address+path+"?salt=0123456789abcdef", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var said ProbeAnswer
		if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || resp.StatusCode != 200 || said.Present || len(said.Hash) != 64 {
			t.Error(path, resp.Status, said, err)
		}
	}
	if seen := s.requests(); len(seen) > 0 {
		t.Errorf("the app saw %d requests", len(seen))
	}
}
