package observe

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/telemetry"
)

type failing func() error

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f() }

// A worker names the code of its refusal itself. Codes that are not in the table, or none, are one value of the metric: it could
// make up as many as it likes, each of which is kept.
func TestCodesOfAWorkerAreFew(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	t.Cleanup(func() { _ = provider.Shutdown(t.Context()) })
	o, err := New(tracenoop.NewTracerProvider(), provider)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	refused := o.Transport(failing(func() error {
		n++
		p := relay.Problem{Code: relay.Code("made_up_" + string(rune('a'+n/26)) + string(rune('a'+n%26)))}
		switch n {
		case 1:
			p.Code = relay.CodeOverloaded
		case 2:
			p.Code = "" // none counts as internal
		}
		return p.Err()
	}))
	for range 100 {
		if _, err := refused.RoundTrip(httptest.NewRequest("GET", "http://middleware/", nil)); err == nil {
			t.Fatal("no error")
		}
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	codes := map[attribute.Value]uint64{}
	for _, m := range all.ScopeMetrics[0].Metrics {
		if h, ok := m.Data.(metricdata.Histogram[float64]); ok {
			for _, p := range h.DataPoints {
				code, _ := p.Attributes.Value(telemetry.CodeKey)
				codes[code] += p.Count
			}
		}
	}
	if len(codes) != 3 || codes[attribute.StringValue("overloaded")] != 1 || codes[attribute.StringValue("internal")] != 1 || codes[attribute.StringValue("other")] != 98 {
		t.Errorf("%d codes: %v", len(codes), codes)
	}
}
