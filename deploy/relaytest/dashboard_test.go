package relaytest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
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
	registry := prometheus.NewRegistry()
	o := observe(t, n, says("hello"), func(*testing.T, string) (trace.TracerProvider, metric.MeterProvider) {
		reader, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
		relaytest.Must(t, err)
		return noop.NewTracerProvider(), sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	})
	o.viaSidecar(t, "GET", "/", http.Header{}).want(t, 200, "hello")
	r := newRequest(t, "GET", "/", nil)
	r.Header.Set("X-Forwarded-Access-Token", relaytest.Token("alice", time.Now().Add(-time.Hour)))
	if got := do(o.client, r); got.err == nil {
		t.Errorf("%s", got)
	}
	page := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}).ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(page.Body)
	relaytest.Must(t, err)
	known := map[string]bool{}
	for line := range strings.Lines(string(body)) {
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
