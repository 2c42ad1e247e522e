package relaytest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

// queried is what a PromQL expression asks of the relay: metrics and labels.
var queried = regexp.MustCompile(`\b(?:obo|http)_\w+`)

// Every metric and label that the dashboard and the alert rules ask for is there, as Prometheus would scrape it.
func TestDashboard(t *testing.T) {
	n, _ := start(t)
	providers, scrape := scraped()
	o := observe(t, n, says("hello"), providers)
	o.viaSidecar(t, "GET", "/", http.Header{}).want(t, 200, "hello")
	r := newRequest(t, "GET", "/", nil)
	r.Header.Set("X-Forwarded-Access-Token", relaytest.Token("alice", time.Now().Add(-time.Hour)))
	if got := do(o.client, r); got.err == nil {
		t.Errorf("%s", got)
	}
	body := scrape(t)
	known := map[string]bool{}
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, "#") {
			for _, name := range queried.FindAllString(line, -1) {
				known[name] = true
			}
		}
	}
	asked := 0
	for place, expressions := range map[string][]string{"../dashboards/obo-relay.json": dashboard(t), "../ALERTS.md": alertRules(t)} {
		for _, e := range expressions {
			names := queried.FindAllString(e, -1)
			if len(names) == 0 {
				t.Errorf("%s: %s asks for nothing of the relay", place, e)
			}
			for _, name := range names {
				asked++
				if !known[name] {
					t.Errorf("%s: %s: there is no %s", place, e, name)
				}
			}
		}
	}
	if asked < 50 || known["obo_no_such_metric"] {
		t.Errorf("%d names asked for, %d known:\n%s", asked, len(known), body)
	}
}

// The rules warn before a replay cache refuses what anybody sends, and alarm when it does.
func TestAlertsOfTheReplayCache(t *testing.T) {
	n, _ := start(t)
	providers, scrape := scraped()
	o := observe(t, n, says("hello"), providers, withReplayCapacity(10)) // everything is one person's
	for sent := 0; do(o.client, newRequest(t, "GET", "/", nil)).err == nil; sent++ {
		if sent == 10 {
			t.Fatal("it refuses nothing")
		}
	}
	counted := map[string]float64{} // series without labels but the code
	for line := range strings.Lines(scrape(t)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, labels, _ := strings.Cut(series, "{")
		if n, err := strconv.ParseFloat(value, 64); err == nil && (labels == "" || strings.Contains(labels, `obo_code="replay_full"`)) {
			counted[name] = n
		}
	}
	const warns = `^obo_worker_replay_ids / obo_worker_replay_capacity > ([0-9.]+)$`
	warned, alarmed := false, false
	for _, rule := range alertRules(t) {
		if m := regexp.MustCompile(warns).FindStringSubmatch(rule); m != nil {
			most, err := strconv.ParseFloat(m[1], 64)
			relaytest.Must(t, err)
			warned = most < 0.5 && counted["obo_worker_replay_ids"]/counted["obo_worker_replay_capacity"] > most
		}
		for _, m := range regexp.MustCompile(`(\w+)\{obo_code=~?"(?:[^"]*\|)?replay_full[|"]`).FindAllStringSubmatch(rule, -1) {
			alarmed = alarmed || counted[m[1]] > 0
		}
	}
	if !warned || !alarmed {
		t.Errorf("warned %t, alarmed %t; %v", warned, alarmed, counted)
	}
}

// scraped makes providers whose metrics a page shows as Prometheus would scrape it.
func scraped() (providers makeProviders, scrape func(*testing.T) string) {
	registry := prometheus.NewRegistry()
	providers = func(t *testing.T, _ string) (trace.TracerProvider, metric.MeterProvider) {
		reader, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
		relaytest.Must(t, err)
		return noop.NewTracerProvider(), sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	}
	return providers, func(t *testing.T) string {
		page := httptest.NewRecorder()
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
		return page.Body.String()
	}
}

// dashboard returns the expressions of the dashboard.
func dashboard(t *testing.T) (expressions []string) {
	t.Helper()
	b, err := os.ReadFile("../dashboards/obo-relay.json")
	relaytest.Must(t, err)
	var d struct {
		Panels []struct {
			Title, Type string
			Targets     []struct{ Expr string }
		}
	}
	relaytest.Must(t, json.Unmarshal(b, &d))
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			expressions = append(expressions, target.Expr)
		}
	}
	return expressions
}

// alertRules returns the expressions of the rules in ALERTS.md.
func alertRules(t *testing.T) (expressions []string) {
	t.Helper()
	b, err := os.ReadFile(alertsDoc)
	relaytest.Must(t, err)
	for _, m := range regexp.MustCompile(`(?m)^ +expr: (.+)$`).FindAllStringSubmatch(string(b), -1) {
		expressions = append(expressions, m[1])
	}
	return expressions
}
