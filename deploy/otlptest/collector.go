// Package otlptest is a small OpenTelemetry collector for tests: it takes traces and metrics over gRPC and over HTTP, as
// the OTLP specification has it, and keeps them.
package otlptest

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	datapb "go.opentelemetry.io/proto/otlp/metrics/v1"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// Collector keeps what it is sent.
type Collector struct {
	GRPC string // URL of the gRPC endpoint
	HTTP string // URL of the HTTP endpoint, to which exporters add /v1/traces and /v1/metrics

	mu      sync.Mutex
	spans   []Span
	metrics map[string][]*datapb.Metric
	whole   strings.Builder // everything, as JSON
	news    chan struct{}   // closed and replaced when something comes
}

// Span is a span with what it belongs to.
type Span struct {
	*spanpb.Span
	Resource map[string]string
	Scope    string
}

// Attribute is an attribute's value as text, empty without it.
func (s Span) Attribute(key string) string { return texts(s.Attributes)[key] }

func texts(all []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, kv := range all {
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			out[kv.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			out[kv.Key] = strconv.FormatInt(v.IntValue, 10)
		}
	}
	return out
}

// Start starts a collector on free ports.
func Start(tb testing.TB) *Collector {
	tb.Helper()
	c := &Collector{metrics: map[string][]*datapb.Metric{}, news: make(chan struct{})}
	server := grpc.NewServer()
	tracepb.RegisterTraceServiceServer(server, traces{c: c})
	metricspb.RegisterMetricsServiceServer(server, metrics{c: c})
	web := &http.Server{Handler: c, ReadHeaderTimeout: patience}
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		return l
	}
	rpc, plain := listen(), listen()
	c.GRPC, c.HTTP = "http://"+rpc.Addr().String(), "http://"+plain.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(rpc) }) // until Stop
	serving.Go(func() { _ = web.Serve(plain) })  // until Close
	tb.Cleanup(func() {
		server.Stop()
		_ = web.Close()
		serving.Wait()
	})
	return c
}

type traces struct {
	tracepb.UnimplementedTraceServiceServer
	c *Collector
}

func (t traces) Export(_ context.Context, r *tracepb.ExportTraceServiceRequest) (*tracepb.ExportTraceServiceResponse, error) {
	t.c.takeTraces(r)
	return &tracepb.ExportTraceServiceResponse{}, nil
}

type metrics struct {
	metricspb.UnimplementedMetricsServiceServer
	c *Collector
}

func (m metrics) Export(_ context.Context, r *metricspb.ExportMetricsServiceRequest) (*metricspb.ExportMetricsServiceResponse, error) {
	m.c.takeMetrics(r)
	return &metricspb.ExportMetricsServiceResponse{}, nil
}

// ServeHTTP is OTLP over HTTP with protobuf.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, "want application/x-protobuf", http.StatusUnsupportedMediaType)
		return
	}
	switch r.URL.Path {
	case "/v1/traces":
		var m tracepb.ExportTraceServiceRequest
		if err = proto.Unmarshal(body, &m); err == nil {
			c.takeTraces(&m)
		}
	case "/v1/metrics":
		var m metricspb.ExportMetricsServiceRequest
		if err = proto.Unmarshal(body, &m); err == nil {
			c.takeMetrics(&m)
		}
	default:
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf") // an empty message
}

func (c *Collector) takeTraces(r *tracepb.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range r.ResourceSpans {
		resource := texts(rs.Resource.Attributes)
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				c.spans = append(c.spans, Span{s, resource, ss.Scope.Name})
			}
		}
	}
	c.took(r)
}

func (c *Collector) takeMetrics(r *metricspb.ExportMetricsServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rm := range r.ResourceMetrics {
		for _, sm := range rm.ScopeMetrics {
			for _, m := range sm.Metrics {
				c.metrics[m.Name] = append(c.metrics[m.Name], m)
			}
		}
	}
	c.took(r)
}

// took notes news; the caller holds mu.
func (c *Collector) took(m proto.Message) {
	b, _ := protojson.Marshal(m)
	c.whole.Write(b)
	close(c.news)
	c.news = make(chan struct{})
}

// Spans are all that have come.
func (c *Collector) Spans() []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// Metrics are the names of all that have come.
func (c *Collector) Metrics() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.metrics {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Histogram are the attributes of a histogram's points.
func (c *Collector) Histogram(name string) (points []map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.metrics[name] {
		for _, p := range m.GetHistogram().GetDataPoints() {
			points = append(points, texts(p.Attributes))
		}
	}
	return points
}

// All is everything that has come, as JSON: texts stand in it as they are.
func (c *Collector) All() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.whole.String()
}

// Wait waits until ok is content with what has come, and reports whether it is.
func (c *Collector) Wait(ok func(*Collector) bool) bool {
	expired := time.After(patience)
	for {
		c.mu.Lock()
		news := c.news
		c.mu.Unlock()
		if ok(c) {
			return true
		}
		select {
		case <-news:
		case <-expired:
			return false
		}
	}
}

// Trace returns the spans of one trace from its root on, each followed by its first child, if such a chain of these kinds
// has come.
func (c *Collector) Trace(kinds ...spanpb.Span_SpanKind) []Span {
	all := c.Spans()
	for _, s := range all {
		if chain := descend(all, s, kinds); chain != nil {
			return chain
		}
	}
	return nil
}

func descend(all []Span, s Span, kinds []spanpb.Span_SpanKind) []Span {
	if s.Kind != kinds[0] {
		return nil
	}
	if len(kinds) == 1 {
		return []Span{s}
	}
	for _, child := range all {
		if string(child.TraceId) == string(s.TraceId) && string(child.ParentSpanId) == string(s.SpanId) {
			if rest := descend(all, child, kinds[1:]); rest != nil {
				return append([]Span{s}, rest...)
			}
		}
	}
	return nil
}
