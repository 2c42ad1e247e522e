package telemetry

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Two readers that ask at the same time each get what was fetched for them.
func TestObservedByTwoReaders(t *testing.T) {
	readers := []*sdkmetric.ManualReader{sdkmetric.NewManualReader(), sdkmetric.NewManualReader()}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(readers[0]), sdkmetric.WithReader(readers[1]))
	t.Cleanup(func() { _ = provider.Shutdown(t.Context()) })
	var fetched atomic.Int64
	all := NewObserved(provider.Meter("test"))
	all.Gauge("value", "1", "", func(report func(int64, ...attribute.KeyValue)) {
		before := fetched.Load()
		for range 100 {
			runtime.Gosched()
		}
		if fetched.Load() != before {
			t.Error("fetched anew while it was read")
		}
		report(before)
	})
	if err := all.Register(func() { fetched.Add(1) }); err != nil {
		t.Fatal(err)
	}
	const times = 200
	var both sync.WaitGroup
	for _, r := range readers {
		both.Go(func() {
			for range times {
				var into metricdata.ResourceMetrics
				if err := r.Collect(t.Context(), &into); err != nil {
					t.Error(err)
				}
			}
		})
	}
	both.Wait()
	if n := fetched.Load(); n != 2*times {
		t.Errorf("fetched %d times", n)
	}
}
