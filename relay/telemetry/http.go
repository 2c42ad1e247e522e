package telemetry

import (
	"context"
	"maps"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// W3C trace context, and no baggage: the relay has nothing to add to that, and passes it on as any header.
var traceContext propagation.TraceContext

// Extract returns the context with the trace that a request came with, unless there is one already.
func Extract(ctx context.Context, h http.Header) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return ctx
	}
	return traceContext.Extract(ctx, propagation.HeaderCarrier(h))
}

// Inject returns a request that carries the context's span to its server.
func Inject(ctx context.Context, r *http.Request) *http.Request {
	r = r.WithContext(ctx)
	r.Header = maps.Clone(r.Header) // a RoundTripper does not change a request
	if r.Header == nil {
		r.Header = http.Header{}
	}
	traceContext.Inject(ctx, propagation.HeaderCarrier(r.Header))
	return r
}

// Server is a handler whose requests are spans of their own.
func Server(next http.Handler, tracer trace.Tracer, attributes ...attribute.KeyValue) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := Method(r.Method)
		ctx, span := tracer.Start(Extract(r.Context(), r.Header), method.Value.AsString(), trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attributes...), trace.WithAttributes(method, semconv.URLScheme("http")), trace.WithAttributes(path(r.URL.EscapedPath())...))
		out := &statusWriter{ResponseWriter: w}
		defer func() { // also when the handler breaks off
			if out.status != 0 {
				span.SetAttributes(semconv.HTTPResponseStatusCode(out.status))
			}
			if out.status == 0 || out.status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
			span.End()
		}()
		next.ServeHTTP(out, r.WithContext(ctx))
	})
}

// statusWriter notes the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 || status == http.StatusSwitchingProtocols {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Client is a RoundTripper whose requests are spans of their own, and carry them on.
func Client(next http.RoundTripper, tracer trace.Tracer) http.RoundTripper {
	return &client{next, tracer}
}

type client struct {
	next   http.RoundTripper
	tracer trace.Tracer
}

func (c *client) RoundTrip(r *http.Request) (*http.Response, error) {
	method := Method(r.Method)
	target := *r.URL
	target.User, target.RawQuery, target.ForceQuery, target.Fragment = nil, "", false, ""
	attributes := []attribute.KeyValue{method, semconv.URLFull(target.String()), semconv.ServerAddress(target.Hostname())}
	if port, err := strconv.Atoi(target.Port()); err == nil {
		attributes = append(attributes, semconv.ServerPort(port))
	}
	ctx, span := c.tracer.Start(r.Context(), method.Value.AsString(), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	resp, err := c.next.RoundTrip(Inject(ctx, r))
	if err != nil {
		span.SetStatus(codes.Error, "")
		span.SetAttributes(semconv.ErrorType(err))
		span.End()
		return nil, err
	}
	span.SetAttributes(semconv.HTTPResponseStatusCode(resp.StatusCode))
	if resp.StatusCode >= http.StatusBadRequest {
		span.SetStatus(codes.Error, "")
	}
	if resp.StatusCode == http.StatusSwitchingProtocols { // its body is a connection
		span.End()
		return resp, nil
	}
	WatchBody(resp, func(_ int64, err error) {
		if err != nil {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	})
	return resp, nil
}

// CloseIdleConnections is for http.Client and for whoever stops.
func (c *client) CloseIdleConnections() {
	if t, ok := c.next.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
