package relaytest_test

import (
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/obo-relay/obo-relay/deploy/otlptest"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	pubobserve "github.com/obo-relay/obo-relay/publisher/observe"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
	workobserve "github.com/obo-relay/obo-relay/worker/observe"
)

// makeProviders are one process's.
type makeProviders func(t *testing.T, name string) (trace.TracerProvider, metric.MeterProvider)

// collecting makes providers that send to a collector, and flush sends what they have.
func collecting(c *otlptest.Collector) (providers makeProviders, flush func(*testing.T)) {
	var flushes []func(context.Context) error
	providers = func(t *testing.T, name string) (trace.TracerProvider, metric.MeterProvider) {
		traces, metrics := exporting(t, c, name)
		flushes = append(flushes, traces.ForceFlush, metrics.ForceFlush)
		return traces, metrics
	}
	return providers, func(t *testing.T) {
		t.Helper()
		for _, f := range flushes {
			relaytest.Must(t, f(t.Context()))
		}
	}
}

func exporting(t *testing.T, c *otlptest.Collector, name string) (*sdktrace.TracerProvider, *sdkmetric.MeterProvider) {
	t.Helper()
	spans, err := otlptracegrpc.New(t.Context(), otlptracegrpc.WithEndpointURL(c.GRPC))
	relaytest.Must(t, err)
	points, err := otlpmetricgrpc.New(t.Context(), otlpmetricgrpc.WithEndpointURL(c.GRPC))
	relaytest.Must(t, err)
	about := resource.NewSchemaless(semconv.ServiceName(name))
	traces := sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(spans))
	metrics := sdkmetric.NewMeterProvider(sdkmetric.WithResource(about), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(points)))
	t.Cleanup(func() {
		relaytest.Must(t, traces.Shutdown(context.Background()))
		relaytest.Must(t, metrics.Shutdown(context.Background()))
	})
	return traces, metrics
}

// observed is a relay between a sidecar and an app, each side observed by providers of its own.
type observed struct {
	*relaytest.Net
	sidecar  *httptest.Server
	client   http.RoundTripper // a Go UI's
	instance string
	tokens   lookups
}

// lookups answers for every token.
type lookups struct{}

func (lookups) ask(context.Context, relay.Token) (*worker.User, error) {
	return &worker.User{ID: "7", UserName: "alice@example.com"}, nil
}

func observe(t *testing.T, n *relaytest.Net, app http.Handler, providers makeProviders, change ...func(*worker.Config)) *observed {
	t.Helper()
	o := &observed{Net: n}
	upstream := httptest.NewServer(app)
	t.Cleanup(upstream.Close)
	base, err := url.Parse(upstream.URL)
	relaytest.Must(t, err)
	wTraces, wMetrics := providers(t, "the worker")
	w, err := workobserve.New(wTraces, wMetrics)
	relaytest.Must(t, err)
	forward, err := worker.Forward(base, slog.New(slog.DiscardHandler), w.Upstream)
	relaytest.Must(t, err)
	lookup, err := worker.NewCachedLookup(worker.LookupConfig{Ask: w.Ask(o.tokens.ask)})
	relaytest.Must(t, err)
	t.Cleanup(lookup.Close)
	running, _ := n.Worker(forward, func(c *worker.Config) {
		c.Observer, c.Lookup = w.Request, lookup
		for _, f := range change {
			f(c)
		}
	})
	relaytest.Must(t, w.Watch(running))
	pTraces, pMetrics := providers(t, "the publisher")
	p, err := pubobserve.New(pTraces, pMetrics)
	relaytest.Must(t, err)
	transport := n.Publisher(func(c *publisher.Config) { c.OnAttempt = p.Attempt })
	relaytest.Must(t, p.Watch(transport))
	o.client = p.Transport(transport)
	handler, err := publisher.NewSidecar(publisher.SidecarConfig{Transport: transport, Service: relaytest.Service, Via: o.client, Log: slog.New(slog.DiscardHandler)})
	relaytest.Must(t, err)
	o.sidecar = httptest.NewServer(p.Handler(relaytest.Service, handler))
	t.Cleanup(o.sidecar.Close)
	o.instance = running.Instance()
	return o
}

// viaSidecar sends a request as an app in another language does.
func (o *observed) viaSidecar(t *testing.T, method, path string, header http.Header) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, o.sidecar.URL+path, nil)
	relaytest.Must(t, err)
	r.Header = header.Clone()
	r.Header.Set("X-Forwarded-Access-Token", alice())
	return do(sidecarClient(t).Transport, r)
}

// hops are the kinds of spans of a relayed request, from the sidecar to the app.
var hops = []spanpb.Span_SpanKind{spanpb.Span_SPAN_KIND_SERVER, spanpb.Span_SPAN_KIND_PRODUCER, spanpb.Span_SPAN_KIND_CONSUMER, spanpb.Span_SPAN_KIND_CLIENT}

// A request is one trace, from whoever calls the sidecar to the app behind the worker, over two processes and NATS.
func TestOneTraceSpansBothProcesses(t *testing.T) {
	n, _ := start(t)
	var mu sync.Mutex
	var arrived http.Header
	collector := otlptest.Start(t)
	providers, flush := collecting(collector)
	o := observe(t, n, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		arrived = r.Header.Clone()
		mu.Unlock()
		_, _ = io.WriteString(w, "hello")
	}), providers)
	const caller, state = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "vendor=value"
	got := o.viaSidecar(t, "POST", "/groups/a?q=secret", http.Header{"Traceparent": {caller}, "Tracestate": {state}})
	got.want(t, 200, "hello")
	var chain []otlptest.Span
	flush(t)
	if !collector.Wait(func(c *otlptest.Collector) bool { chain = c.Trace(hops...); return chain != nil }) {
		t.Fatalf("no trace of %v in %s", hops, collector.All())
	}
	server, producer, consumer, client := chain[0], chain[1], chain[2], chain[3]
	if id, parent := hex.EncodeToString(server.TraceId), hex.EncodeToString(server.ParentSpanId); id != caller[3:35] || parent != caller[36:52] {
		t.Errorf("the trace is %s under %s, the caller's was %s", id, parent, caller)
	}
	for i, want := range []string{"the publisher", "the publisher", "the worker", "the worker"} {
		if got := chain[i].Resource["service.name"]; got != want {
			t.Errorf("span %s is from %q, want %q", chain[i].Name, got, want)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want := "00-" + hex.EncodeToString(client.TraceId) + "-" + hex.EncodeToString(client.SpanId) + "-01"; arrived.Get("Traceparent") != want || arrived.Get("Tracestate") != state {
		t.Errorf("the app got traceparent %q, want %q, tracestate %q", arrived["Traceparent"], want, arrived["Tracestate"])
	}
	id := got.Header.Get("Obo-Id")
	subject := "obo.v1.req.middleware." + o.instance + ".ui"
	for _, want := range []struct {
		span       otlptest.Span
		name       string
		attributes map[string]string
	}{
		{server, "POST", map[string]string{"http.request.method": "POST", "url.path": "/groups/a", "http.response.status_code": "200", "obo.service": "middleware"}},
		{producer, "send middleware", map[string]string{
			"messaging.system": "nats", "messaging.operation.type": "send", "messaging.operation.name": "send", "messaging.destination.name": subject,
			"messaging.message.id": id, "obo.instance": o.instance, "obo.code": "ok", "obo.outcome": "done", "http.response.status_code": "200",
		}},
		{consumer, "process middleware", map[string]string{
			"messaging.system": "nats", "messaging.operation.type": "process", "messaging.operation.name": "process", "messaging.destination.name": subject,
			"messaging.message.id": id, "obo.app": "ui", "obo.service": "middleware", "obo.instance": o.instance, "obo.code": "ok", "obo.outcome": "done",
			"http.request.method": "POST", "url.path": "/groups/a", "http.response.status_code": "200",
		}},
		{client, "POST", map[string]string{"http.request.method": "POST", "server.address": "127.0.0.1", "http.response.status_code": "200"}},
	} {
		if want.span.Name != want.name || want.span.Status.GetCode() != spanpb.Status_STATUS_CODE_UNSET {
			t.Errorf("span %q, status %v, want %q", want.span.Name, want.span.Status, want.name)
		}
		for key, value := range want.attributes {
			if got := want.span.Attribute(key); got != value {
				t.Errorf("%s: %s is %q, want %q", want.name, key, got, value)
			}
		}
	}
	if full := client.Attribute("url.full"); !strings.HasSuffix(full, "/groups/a") {
		t.Errorf("url.full %q", full)
	}
}

// A request that fails says so in its spans and metrics, with the code of the table.
func TestFailuresAreObserved(t *testing.T) {
	n, _ := start(t)
	collector := otlptest.Start(t)
	providers, flush := collecting(collector)
	o := observe(t, n, says("hello"), providers)
	o.viaSidecar(t, "GET", "/ok", http.Header{}).want(t, 200, "hello")
	r := newRequest(t, "BREW", "/", nil)
	r.Header.Set("X-Forwarded-Access-Token", relaytest.Token("alice", time.Now().Add(-time.Hour)))
	do(o.client, r).wantCode(t, relay.CodeTokenExpired)
	r = newRequest(t, "GET", "/", nil)
	r.URL.Host = "stranger"
	do(o.client, r).wantCode(t, relay.CodeServiceUnknown)
	flush(t)
	var expired otlptest.Span
	for _, s := range collector.Spans() {
		if s.Attribute("obo.code") == "token_expired" {
			expired = s
		}
	}
	if expired.Span == nil || expired.Status.GetCode() != spanpb.Status_STATUS_CODE_ERROR || expired.Attribute("obo.outcome") != "not_delivered" ||
		expired.Attribute("error.type") != "token_expired" || expired.Attribute("http.request.method") != "_OTHER" {
		t.Errorf("%v", expired)
	}
	points := collector.Histogram("obo.publisher.request.duration")
	for _, want := range []map[string]string{
		{"obo.service": "middleware", "http.request.method": "GET", "obo.code": "ok", "obo.outcome": "done", "http.response.status_code": "200"},
		{"obo.service": "middleware", "http.request.method": "_OTHER", "obo.code": "token_expired", "obo.outcome": "not_delivered"},
		{"obo.service": "unknown", "http.request.method": "GET", "obo.code": "service_unknown", "obo.outcome": "not_delivered"},
	} {
		if !slices.ContainsFunc(points, func(p map[string]string) bool { return maps.Equal(p, want) }) {
			t.Errorf("no point has %v: %v", want, points)
		}
	}
	if strings.Contains(collector.All(), "BREW") {
		t.Error("callers choose a method's name")
	}
}

// What is exported holds no token, query, header, body or response, in any spelling, however a request ends.
func TestCanaryInTelemetry(t *testing.T) {
	n, _ := start(t)
	collector := otlptest.Start(t)
	providers, flush := collecting(collector)
	o := observe(t, n, canaryHandler(t), providers)
	tokens := map[string]string{
		"good": canaryToken(t, tomorrow()), "expired": canaryToken(t, time.Now().Add(-time.Hour)), "malformed": canaries["token"] + "\x01",
	}
	for _, token := range tokens {
		for _, path := range []string{"/", "/short", "/fail", "/stream", "/early", "/%2f"} {
			for _, host := range []string{relaytest.Service, "stranger"} {
				r, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+host+path, strings.NewReader(canaries["body"]+strings.Repeat("x", 100_000)))
				relaytest.Must(t, err)
				r.URL.RawQuery = "q=" + url.QueryEscape(canaries["query"])
				r.Header = http.Header{"X-Forwarded-Access-Token": {token}, "X-Canary": {canaries["header"]}, "User-Agent": {canaries["header"]}, "Baggage": {"k=" + url.QueryEscape(canaries["header"])}}
				do(o.client, r)
			}
		}
	}
	flush(t)
	want := []string{"obo.publisher.request.duration", "obo.worker.request.duration", "obo.worker.lookup.duration", "obo.nats.traffic"}
	if !collector.Wait(func(c *otlptest.Collector) bool {
		names := strings.Join(c.Metrics(), " ")
		for _, name := range want {
			if !strings.Contains(names, name) {
				return false
			}
		}
		return c.Trace(hops[1:]...) != nil
	}) {
		t.Fatalf("what was to be searched has not come: %v", collector.Metrics())
	}
	all := collector.All()
	for _, hit := range search(map[string][]byte{"telemetry": []byte(all)}) {
		t.Error(hit)
	}
	if strings.Contains(all, "alice@example.com") {
		t.Error("who the person is was exported")
	}
	// The control: the search looked at what there was.
	if !strings.Contains(all, "/stream") || !strings.Contains(all, "not_started") && !strings.Contains(all, "not_delivered") || len(collector.Spans()) < 30 {
		t.Errorf("%d spans", len(collector.Spans()))
	}
	if len(search(map[string][]byte{"control": []byte(all + canaries["query"])})) == 0 {
		t.Error("the control is not found")
	}
}
