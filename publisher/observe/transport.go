package observe

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/telemetry"
)

// Transport observes the requests that go through next, a publisher.Transport.
func (o *Observer) Transport(next http.RoundTripper) http.RoundTripper { return &transport{o, next} }

type transport struct {
	o    *Observer
	next http.RoundTripper
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	e := exchange{o: t.o, service: r.URL.Host, method: r.Method, start: time.Now()}
	if !relay.ValidName(e.service) {
		e.service = unknown
	}
	if e.method == "" {
		e.method = http.MethodGet
	}
	parent := telemetry.Extract(r.Context(), r.Header)
	e.ctx, e.span = t.o.tracer.Start(parent, "send "+e.service, trace.WithSpanKind(trace.SpanKindProducer))
	if e.span.IsRecording() {
		e.span.SetAttributes(telemetry.ServiceKey.String(e.service), telemetry.Method(e.method))
	}
	if e.span.SpanContext().Equal(trace.SpanContextFromContext(parent)) { // nobody traces
		r = r.WithContext(e.ctx)
	} else {
		r = telemetry.Inject(e.ctx, r)
	}
	if r.ContentLength > 0 {
		e.sent.Store(r.ContentLength)
	} else {
		r.Body = telemetry.Count(r.Body, &e.sent)
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		e.end(0, 0, err)
		return nil, err
	}
	status := resp.StatusCode
	telemetry.WatchBody(resp, func(n int64, err error) { e.end(status, n, err) })
	return resp, nil
}

// unknown stands for services that are in no trust file.
const unknown = "unknown"

// exchange is one request that is observed.
type exchange struct {
	o               *Observer
	ctx             context.Context
	span            trace.Span
	service, method string
	start           time.Time
	sent            atomic.Int64
}

// end takes in what came of it; err is nil for a reply that is whole.
func (e *exchange) end(status int, received int64, err error) {
	result := result{service: e.service, method: telemetry.Method(e.method).Value.AsString(), code: telemetry.CodeOK, outcome: telemetry.Outcome(nil), status: status}
	if err != nil {
		fault := relay.AsError(err)
		if errors.Is(err, telemetry.ErrLeft) {
			fault = relay.NewError(relay.CodeCanceled, "")
		}
		result.code, result.outcome = telemetry.FaultCode(fault.Code), telemetry.Outcome(fault)
		if fault.Code == relay.CodeServiceUnknown {
			result.service = unknown // a name that the caller chose
		}
	}
	e.o.durations.Record(e.ctx, result, time.Since(e.start))
	service := e.o.service(result.service)
	e.o.sent.Add(e.ctx, e.sent.Load(), service...)
	e.o.received.Add(e.ctx, received, service...)
	if e.span.IsRecording() {
		e.span.SetAttributes(telemetry.CodeKey.String(result.code), telemetry.OutcomeKey.String(result.outcome))
		if status != 0 {
			e.span.SetAttributes(semconv.HTTPResponseStatusCode(status))
		}
		if err != nil {
			e.span.SetAttributes(semconv.ErrorTypeKey.String(result.code))
			e.span.SetStatus(codes.Error, "")
		}
	}
	e.span.End()
}
