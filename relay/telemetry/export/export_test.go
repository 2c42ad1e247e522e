package export

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// environment sets the variables of the specification, and no others.
func environment(t *testing.T, variables map[string]string) {
	for _, name := range []string{
		"OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
		"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER",
	} {
		t.Setenv(name, variables[name])
	}
}

func TestProtocol(t *testing.T) {
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"
	for _, c := range []struct {
		name            string
		variables       map[string]string
		traces, metrics string
		logged          string
	}{
		{name: "nothing"},
		{name: "as on Databricks Apps", variables: map[string]string{endpoint: "http://localhost:4314"}, traces: "grpc", metrics: "grpc"},
		{name: "over HTTP", variables: map[string]string{endpoint: "http://localhost:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, traces: "http/protobuf", metrics: "http/protobuf"},
		{name: "each its own", variables: map[string]string{endpoint: "http://localhost:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc"}, traces: "http/protobuf", metrics: "grpc"},
		{name: "traces alone", variables: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4314"}, traces: "grpc"},
		{name: "no metrics", variables: map[string]string{endpoint: "http://localhost:4314", "OTEL_METRICS_EXPORTER": "none"}, traces: "grpc"},
		{name: "otlp and another", variables: map[string]string{endpoint: "http://localhost:4314", "OTEL_METRICS_EXPORTER": "console,otlp"}, traces: "grpc", metrics: "grpc"},
		{name: "an exporter of another program", variables: map[string]string{endpoint: "http://localhost:4314", "OTEL_TRACES_EXPORTER": "zipkin"}, metrics: "grpc", logged: "OTEL_TRACES_EXPORTER=zipkin"},
		{name: "a protocol that obo does not know", variables: map[string]string{endpoint: "http://localhost:4314", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, logged: "protocol=http/json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			environment(t, c.variables)
			var out bytes.Buffer
			log := slog.New(slog.NewTextHandler(&out, nil))
			if traces, metrics := protocolOf("TRACES", log), protocolOf("METRICS", log); traces != c.traces || metrics != c.metrics {
				t.Errorf("traces %q, metrics %q; want %q, %q", traces, metrics, c.traces, c.metrics)
			}
			if (c.logged == "") != (out.Len() == 0) || !strings.Contains(out.String(), c.logged) {
				t.Errorf("logged %q, want %q", out.String(), c.logged)
			}
		})
	}
}

// Without variables and flag there is nothing that could cost anything; so too where the variables switch it off.
func TestOff(t *testing.T) {
	for _, variables := range []map[string]string{
		nil, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4314", "OTEL_SDK_DISABLED": "true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4314", "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
	} {
		environment(t, variables)
		e, err := Settings{}.New(t.Context(), "obo-test", slog.New(slog.DiscardHandler))
		if err != nil || e.On() {
			t.Errorf("%v: on %v, %v", variables, e.On(), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
	}
}

func TestPrometheus(t *testing.T) {
	environment(t, nil)
	t.Setenv("OTEL_SERVICE_NAME", "named")
	e, err := Settings{Metrics: "127.0.0.1:0"}.New(t.Context(), "obo-test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	counter, err := e.Meters().Meter("test").Int64Counter("obo.test.events")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(ctx, 3)
	if e.Tracers().Tracer("test") == nil || e.traces != nil {
		t.Error("there are traces that nobody asked for")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	page := func(path string) (int, string) {
		resp, err := client.Get("http://" + e.listener.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	status, body := page("/metrics")
	if status != 200 || !strings.Contains(body, "\nobo_test_events_total 3\n") || !strings.Contains(body, `service_name="named"`) || !strings.Contains(body, `process_executable_name="obo-test"`) {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := page("/"); status != 404 {
		t.Errorf("/ is %d", status)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestBadAddress(t *testing.T) {
	environment(t, nil)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{"9464": "want [HOST]:PORT", taken.Addr().String(): "choose another port"} {
		e, err := Settings{Metrics: address}.New(t.Context(), "obo-test", slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "--metrics (OBO_METRICS)") || !strings.Contains(err.Error(), want) || e.On() {
			t.Errorf("%s: %v", address, err)
		}
		e.Close()
	}
}

// safeBuffer is written by exporters.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A collector that is not there keeps nobody waiting, and is a line in the log, not text of another form.
func TestNoCollector(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			environment(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + gone.Addr().String(), "OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
			t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "300") // ms; else OpenTelemetry goes on trying after it was told to stop
			var out, standard safeBuffer
			log.SetOutput(&standard)
			defer log.SetOutput(io.Discard)
			e, err := Settings{}.New(t.Context(), "obo-test", slog.New(slog.NewTextHandler(&out, nil)))
			if err != nil || !e.On() {
				t.Fatal(err)
			}
			_, span := e.Tracers().Tracer("test").Start(t.Context(), "a span")
			span.End()
			otel.Handle(errors.New("of OpenTelemetry itself"))
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			begun := time.Now()
			if err := e.Run(ctx); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > flushTime+10*time.Second {
				t.Errorf("it took %v", took)
			}
			if !strings.Contains(out.String(), "the last traces and metrics were not sent") || !strings.Contains(out.String(), "of OpenTelemetry itself") {
				t.Errorf("log: %s", out.String())
			}
			for line := range strings.Lines(out.String()) {
				if !strings.HasPrefix(line, "time=") || !strings.Contains(line, " level=WARN ") {
					t.Errorf("a line of another form: %s", line)
				}
			}
			if standard.String() != "" {
				t.Errorf("standard log: %s", standard.String())
			}
		})
	}
}
