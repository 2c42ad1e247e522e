package export

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/version"
)

// Settings are the flags of a command; kong fills them.
type Settings struct {
	Metrics string `name:"metrics" placeholder:"[HOST]:PORT" help:"Serve metrics for Prometheus there, at /metrics. Default: nowhere. Where OTEL_EXPORTER_OTLP_ENDPOINT is set, traces and metrics go there too."`
}

// flushTime is how long what has not been sent yet may take at the end.
const flushTime = time.Second

// Exporter has the providers, and what they send to.
type Exporter struct {
	traces   *sdktrace.TracerProvider // nil: none
	metrics  *sdkmetric.MeterProvider // nil: none
	listener net.Listener             // nil: no metrics for Prometheus
	handler  http.Handler
	log      *slog.Logger
}

// New makes what the settings and the environment ask for. command names the process where OTEL_SERVICE_NAME does not. With
// an error comes an Exporter that is off.
func (s Settings) New(ctx context.Context, command string, log *slog.Logger) (*Exporter, error) {
	e := &Exporter{log: log}
	spans, points := fromEnvironment(ctx, log)
	if spans == nil && points == nil && s.Metrics == "" {
		return e, nil
	}
	quiet(log)
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName(command), semconv.ServiceVersion(version.Build()), semconv.ServiceInstanceID(relay.NewID().String()),
			semconv.ProcessExecutableName(command)),
		resource.WithFromEnv())
	if err != nil {
		log.Warn("OTEL_RESOURCE_ATTRIBUTES cannot be read whole", "error", err)
	}
	if spans != nil {
		e.traces = sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(spans))
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(about)}
	if points != nil {
		options = append(options, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(points)))
	}
	if s.Metrics != "" {
		reader, err := e.prometheus(s.Metrics)
		if err != nil {
			_ = e.shutdown()
			return &Exporter{}, err
		}
		options = append(options, sdkmetric.WithReader(reader))
	}
	if len(options) > 1 {
		e.metrics = sdkmetric.NewMeterProvider(options...)
	}
	return e, nil
}

// prometheus listens, and returns what reads the instruments when somebody asks.
func (e *Exporter) prometheus(address string) (sdkmetric.Reader, error) {
	registry := prometheus.NewRegistry()
	reader, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return nil, err
	}
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return nil, fmt.Errorf("--metrics (OBO_METRICS): %q: want [HOST]:PORT, for example 127.0.0.1:9464", address)
	}
	if e.listener, err = net.Listen("tcp", address); err != nil {
		return nil, fmt.Errorf("--metrics (OBO_METRICS): %w: stop what listens there, or choose another port", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelWarn)}))
	e.handler = mux
	return reader, nil
}

// On reports whether anything is to be observed.
func (e *Exporter) On() bool { return e.traces != nil || e.metrics != nil }

// Tracers makes spans, or nothing.
func (e *Exporter) Tracers() trace.TracerProvider {
	if e.traces == nil {
		return tracenoop.NewTracerProvider()
	}
	return e.traces
}

// Meters makes instruments, or nothing.
func (e *Exporter) Meters() metric.MeterProvider {
	if e.metrics == nil {
		return metricnoop.NewMeterProvider()
	}
	return e.metrics
}

// Run serves metrics until ctx ends, and then sends what is left. Let it end after all that is observed.
func (e *Exporter) Run(ctx context.Context) error {
	if !e.On() {
		<-ctx.Done()
		return nil
	}
	failed := make(chan error, 1)
	if e.listener != nil {
		server := &http.Server{Handler: e.handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelWarn)}
		e.log.Info("serving metrics", "url", "http://"+e.listener.Addr().String()+"/metrics")
		go func() { failed <- server.Serve(e.listener) }()
		defer func() { _ = server.Close() }() // nobody waits for metrics
	}
	select {
	case err := <-failed:
		_ = e.shutdown()
		return fmt.Errorf("--metrics: %w", err)
	case <-ctx.Done():
	}
	if err := e.shutdown(); err != nil {
		e.log.Warn("the last traces and metrics were not sent", "error", err)
	}
	return nil
}

// Close lets go of an exporter that was never run.
func (e *Exporter) Close() {
	if e.listener != nil {
		_ = e.listener.Close() // nobody was served
	}
	_ = e.shutdown()
}

func (e *Exporter) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	var faults [2]error
	done := make(chan struct{})
	go func() {
		defer close(done)
		if e.traces != nil {
			faults[0] = e.traces.Shutdown(ctx)
		}
	}()
	if e.metrics != nil {
		faults[1] = e.metrics.Shutdown(ctx)
	}
	<-done
	return errors.Join(faults[:]...)
}
