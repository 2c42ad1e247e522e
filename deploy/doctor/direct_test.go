package doctor

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// frontOf puts the sandbox's front proxy of the middleware app before a receiver.
func (r *rig) frontOf(receiver http.Handler, change func(*sandbox.FrontConfig)) string {
	r.t.Helper()
	app := httptest.NewServer(receiver)
	r.t.Cleanup(app.Close)
	cfg := sandbox.FrontConfig{Workspace: r.workspace, App: "middleware", Upstream: app.URL}
	change(&cfg)
	front, err := sandbox.NewFront(cfg)
	relaytest.Must(r.t, err)
	door, err := front.Listen("127.0.0.1:0")
	relaytest.Must(r.t, err)
	r.t.Cleanup(func() { relaytest.Must(r.t, door.Close()) })
	return door.URL()
}

func TestDirect(t *testing.T) {
	probe := http.HandlerFunc(worker.Probe)
	none := func(*sandbox.FrontConfig) {}
	all := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { // a platform that carries everything
		token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
		req.Header.Set(relay.HeaderAccessToken, token)
		worker.Probe(w, req)
	})
	other := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Header.Set(relay.HeaderAccessToken, "the service principal's")
		worker.Probe(w, req)
	})
	for name, test := range map[string]struct {
		receiver http.Handler
		change   func(*sandbox.FrontConfig)
		bare     bool // no front proxy
		want     Needed
		verdict  Verdict
		detail   string
		remedy   string
	}{
		"lost":                  {probe, none, false, NeededYes, OK, "under /api/ it is lost on the way, elsewhere it is lost on the way. The relay is needed", ""},
		"carried under /api/":   {probe, func(c *sandbox.FrontConfig) { c.CarryUser = true }, false, NeededOutside, OK, "The relay is NOT needed for routes under /api/", ""},
		"only /api/ by bearer":  {probe, func(c *sandbox.FrontConfig) { c.CarryUser, c.BearerOnlyAPI = true, true }, false, NeededOutside, OK, "elsewhere it is sent to the sign-in page (302)", ""},
		"carried everywhere":    {all, none, true, NeededNo, OK, "The relay is NOT needed here", ""},
		"another token arrives": {other, none, true, NeededYes, OK, "another token arrives", ""},
		"led elsewhere":         {http.RedirectHandler("/login", http.StatusTemporaryRedirect), none, false, NeededUnknown, Warning, "the app sends it on to another path of its own (307)", "five lines for FastAPI"},
		"nobody says":           {http.NotFoundHandler(), none, false, NeededUnknown, Warning, "nobody says what arrived (404)", "five lines for FastAPI"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, relaytest.Options{})
			r.worker(nil)
			if test.bare {
				server := httptest.NewServer(test.receiver)
				t.Cleanup(server.Close)
				r.cfg.Direct = server.URL
			} else {
				r.cfg.Direct = r.frontOf(test.receiver, test.change)
			}
			report := r.look()
			report.want(t, "direct", test.verdict, test.detail, test.remedy)
			if report.RelayNeeded != test.want {
				t.Errorf("relay needed: %s, want %s", report.RelayNeeded, test.want)
			}
		})
	}
}

func TestDirectWithWhatCannotBeTold(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	// The Databricks CLI's own token.
	token, err := r.workspace.Token(alice, sandbox.TokenOptions{})
	relaytest.Must(t, err)
	r.cfg.Token = token
	r.cfg.Direct = r.frontOf(http.HandlerFunc(worker.Probe), func(*sandbox.FrontConfig) {})
	r.look().want(t, "direct", Warning, "lost on the way", "a token of the Databricks CLI")
	r.cfg.Direct = "http://middleware.example" // would be sent in clear
	report := r.look()
	report.want(t, "direct", Failed, "not the https URL", "https://")
	if report.RelayNeeded != NeededUnknown {
		t.Error(report.RelayNeeded)
	}
}

func TestServeLooksWithTheTokenOfTheRequest(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	token := r.cfg.Token
	r.cfg.Token = ""
	server := httptest.NewServer(Handler(r.cfg))
	t.Cleanup(server.Close)
	get := func(path, token string) (*http.Response, *Report) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		relaytest.Must(t, err)
		req.Header.Set("Accept", "application/json")
		if token != "" {
			req.Header.Set(relay.HeaderAccessToken, token)
		}
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		relaytest.Must(t, err)
		defer resp.Body.Close()
		report := new(Report)
		if resp.StatusCode == http.StatusOK {
			relaytest.Must(t, json.NewDecoder(resp.Body).Decode(report))
		}
		return resp, report
	}
	if _, report := get("/", token); report.Verdict != OK {
		t.Error(report.text())
	}
	_, report := get("/", "")
	report.want(t, "user authorization", Warning, "this request's X-Forwarded-Access-Token", "user token passthrough not enabled")
	if resp, _ := get("/favicon.ico", token); resp.StatusCode != http.StatusNotFound {
		t.Error(resp.Status)
	}
	if resp, _ := get(worker.ProbePath+"?salt=0123456789abcdef", token); resp.StatusCode != http.StatusOK {
		t.Error(resp.Status)
	}
}
