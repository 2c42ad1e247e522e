package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	spanpb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/obo-relay/obo-relay/deploy/otlptest"
)

type collectorKey struct{}

// collecting gives a script a collector, and ports.
func collecting(t *testing.T, env *testscript.Env) error {
	c := otlptest.Start(t)
	env.Values[collectorKey{}] = c
	env.Setenv("OTLP_GRPC", c.GRPC)
	env.Setenv("OTLP_HTTP", c.HTTP)
	for _, name := range []string{"APP_PORT", "WORKER_METRICS_PORT", "PUBLISHER_METRICS_PORT"} {
		port, err := freePort()
		if err != nil {
			return err
		}
		env.Setenv(name, port)
	}
	return nil
}

// app is a middleware app that writes what it likes, until it is told to stop.
func app() {
	fmt.Print("  two lines,\n\tas they are\n")
	fmt.Fprint(os.Stderr, "\x1b[31mthe app's own line\x1b[0m\n")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	server := &http.Server{Addr: os.Args[1], Handler: http.HandlerFunc(echo)}
	go func() {
		<-stop
		_ = server.Close()
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		panic(err)
	}
	os.Exit(0)
}

// lines FILE REGEXP wants every line of a file to match as a whole.
func lines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lines file regexp")
	}
	pattern, err := regexp.Compile("^(" + args[1] + ")$")
	ts.Check(err)
	n := 0
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		n++
		if !pattern.MatchString(strings.TrimSuffix(line, "\n")) {
			ts.Fatalf("%s: a line of another form: %s", args[0], line)
		}
	}
	if n < 3 {
		ts.Fatalf("%s has %d lines", args[0], n)
	}
}

// traced SERVICE... wants a trace that goes through the sidecar, the publisher, the worker and to the app, whose spans were
// sent by these services.
func traced(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: traced service service service service")
	}
	var chain []otlptest.Span
	c := ts.Value(collectorKey{}).(*otlptest.Collector)
	if !c.Wait(func(c *otlptest.Collector) bool {
		chain = c.Trace(spanpb.Span_SPAN_KIND_SERVER, spanpb.Span_SPAN_KIND_PRODUCER, spanpb.Span_SPAN_KIND_CONSUMER, spanpb.Span_SPAN_KIND_CLIENT)
		return chain != nil
	}) {
		ts.Fatalf("no such trace among %d spans", len(c.Spans()))
	}
	for i, want := range args {
		if got := chain[i].Resource["service.name"]; got != want {
			ts.Fatalf("span %s is of %q, want %q", chain[i].Name, got, want)
		}
	}
}

// collected prints everything that was exported over OTLP.
func collected(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: collected")
	}
	all := ts.Value(collectorKey{}).(*otlptest.Collector).All()
	if !strings.Contains(all, "obo.worker.request.duration") || !strings.Contains(all, "obo.publisher.request.duration") {
		ts.Fatalf("the metrics of a side are missing")
	}
	_, err := fmt.Fprint(ts.Stdout(), all)
	ts.Check(err)
}
