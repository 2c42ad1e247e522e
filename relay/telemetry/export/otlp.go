package export

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/grpclog"
)

// fromEnvironment makes the exporters that OTEL_* ask for, nil for none. Endpoints, headers, certificates and time limits
// are read by the exporters themselves.
func fromEnvironment(ctx context.Context, log *slog.Logger) (spans sdktrace.SpanExporter, points sdkmetric.Exporter) {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return nil, nil
	}
	var err error
	switch protocolOf("TRACES", log) {
	case "grpc":
		spans, err = otlptracegrpc.New(ctx)
	case "http/protobuf":
		spans, err = otlptracehttp.New(ctx)
	}
	if err != nil {
		log.Warn("no traces are sent", "error", err)
		spans = nil
	}
	switch protocolOf("METRICS", log) {
	case "grpc":
		points, err = otlpmetricgrpc.New(ctx)
	case "http/protobuf":
		points, err = otlpmetrichttp.New(ctx)
	}
	if err != nil {
		log.Warn("no metrics are sent", "error", err)
		points = nil
	}
	return spans, points
}

// protocolOf is how a signal is sent, empty for not at all. Where nothing says it, it is gRPC, which the collector of
// Databricks Apps speaks.
func protocolOf(signal string, log *slog.Logger) string {
	variable := func(format string) string {
		return cmp.Or(os.Getenv(strings.Replace(format, "*", signal+"_", 1)), os.Getenv(strings.Replace(format, "*", "", 1)))
	}
	if variable("OTEL_EXPORTER_OTLP_*ENDPOINT") == "" {
		return ""
	}
	if exporters := os.Getenv("OTEL_" + signal + "_EXPORTER"); exporters != "" && !slices.Contains(strings.Split(exporters, ","), "otlp") {
		if exporters != "none" {
			log.Warn("not sent: obo knows otlp and none only; for Prometheus use --metrics", "signal", strings.ToLower(signal), "OTEL_"+signal+"_EXPORTER", exporters)
		}
		return ""
	}
	switch protocol := cmp.Or(variable("OTEL_EXPORTER_OTLP_*PROTOCOL"), "grpc"); protocol {
	case "grpc", "http/protobuf":
		return protocol
	default:
		log.Warn("not sent: obo knows the protocols grpc and http/protobuf only", "signal", strings.ToLower(signal), "protocol", protocol)
		return ""
	}
}

// quiet has OpenTelemetry and gRPC speak through the log, and not too often: their own way is to write to standard error.
func quiet(log *slog.Logger) {
	now := rate.NewLimiter(rate.Every(time.Minute), 3)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		if now.Allow() {
			log.Warn("telemetry", "error", err)
		}
	}))
	otel.SetLogger(logr.Discard())
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
}
