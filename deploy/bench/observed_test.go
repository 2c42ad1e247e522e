package bench

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	pubobserve "github.com/obo-relay/obo-relay/publisher/observe"
	"github.com/obo-relay/obo-relay/worker"
	workobserve "github.com/obo-relay/obo-relay/worker/observe"
)

// BenchmarkObserved measures what metrics and traces add to a warm request of 1 KiB each way, RoundTripper to handler.
func BenchmarkObserved(b *testing.B) {
	for _, what := range []string{"off", "metrics", "traces"} {
		b.Run(what, func(b *testing.B) {
			n := relaytest.New(b, io.Discard)
			quiet(n)
			tracers, meters := trace.TracerProvider(noop.NewTracerProvider()), metric.MeterProvider(nil)
			if what != "off" {
				reader, err := otelprometheus.New(otelprometheus.WithRegisterer(prometheus.NewRegistry()))
				relaytest.Must(b, err)
				meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
			}
			if what == "traces" {
				tracers = sdktrace.NewTracerProvider(sdktrace.WithBatcher(discard{}))
			}
			var rt http.RoundTripper
			echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
			if what == "off" {
				n.Worker(echo, nil)
				rt = n.Publisher(nil)
			} else {
				w, err := workobserve.New(tracers, meters)
				relaytest.Must(b, err)
				n.Worker(echo, func(c *worker.Config) { c.Observer = w.Request })
				p, err := pubobserve.New(tracers, meters)
				relaytest.Must(b, err)
				rt = p.Transport(n.Publisher(func(c *publisher.Config) { c.OnAttempt = p.Attempt }))
			}
			token, body := longToken("warm", time.Now().Add(time.Hour)), make([]byte, size)
			send := func() error {
				req, _ := http.NewRequest("POST", "http://middleware/echo", bytes.NewReader(body))
				req.Header.Set("X-Forwarded-Access-Token", token)
				resp, err := rt.RoundTrip(req)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				_, err = io.Copy(io.Discard, resp.Body)
				return err
			}
			for range 100 {
				relaytest.Must(b, send())
			}
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				if err := send(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// discard is where spans go.
type discard struct{}

func (discard) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discard) Shutdown(context.Context) error                             { return nil }
