// Package observe makes traces and metrics of a worker, with OpenTelemetry's API. obo-worker does so where OTEL_* or
// --metrics ask for it; a Go middleware with an OpenTelemetry set-up of its own hands its providers in:
//
//	o, err := observe.New(otel.GetTracerProvider(), otel.GetMeterProvider())
//	w, err := worker.New(worker.Config{…, Observer: o.Request})
//	err = o.Watch(w)
//
// A relayed request is a span of kind consumer, whose parent is the publisher's, and the parent of what the handler makes.
package observe

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/telemetry"
	"github.com/obo-relay/obo-relay/worker"
)

const scope = "github.com/obo-relay/obo-relay/worker"

// Observer observes one worker.
type Observer struct {
	tracer         trace.Tracer
	meter          metric.Meter
	requests       *telemetry.Durations[result]
	lookups        *telemetry.Durations[string]
	received, sent metric.Int64Counter
}

// result is what tells requests apart in metrics.
type result struct {
	via, app, method, code string
	status                 int // 0: no reply
}

func (r result) attributes() []attribute.KeyValue {
	all := []attribute.KeyValue{telemetry.ViaKey.String(r.via), telemetry.Method(r.method), telemetry.CodeKey.String(r.code), telemetry.OutcomeKey.String(outcome(r.code))}
	if r.app != "" {
		all = append(all, telemetry.AppKey.String(r.app))
	}
	if r.status != 0 {
		all = append(all, semconv.HTTPResponseStatusCode(r.status))
	}
	return all
}

func outcome(code string) string {
	if code == telemetry.CodeOK {
		return telemetry.Outcome(nil)
	}
	return telemetry.Outcome(relay.NewError(relay.Code(code), ""))
}

// New makes the instruments.
func New(tracers trace.TracerProvider, meters metric.MeterProvider) (*Observer, error) {
	o := &Observer{tracer: tracers.Tracer(scope), meter: meters.Meter(scope)}
	var faults [4]error
	o.requests, faults[0] = telemetry.NewDurations(o.meter, "obo.worker.request.duration", "Requests that apps signed or that came to the front door, to the end of the reply", result.attributes)
	o.lookups, faults[1] = telemetry.NewDurations(o.meter, "obo.worker.lookup.duration", "Questions to the workspace whose token it is; other requests found the answer kept", func(code string) []attribute.KeyValue {
		return []attribute.KeyValue{telemetry.CodeKey.String(code)}
	})
	o.received, faults[2] = o.meter.Int64Counter("obo.worker.body.received", metric.WithUnit("By"), metric.WithDescription("Bytes of request bodies"))
	o.sent, faults[3] = o.meter.Int64Counter("obo.worker.body.sent", metric.WithUnit("By"), metric.WithDescription("Bytes of reply bodies"))
	return o, errors.Join(faults[:]...)
}

// Request is a worker.Observer.
func (o *Observer) Request(ctx context.Context, r worker.RequestBegin) (context.Context, func(worker.RequestEnd)) {
	start := time.Now()
	method := telemetry.Method(r.Method)
	name, kind := "process "+r.Service, trace.SpanKindConsumer
	if r.Via == worker.AuditFront {
		name, kind = method.Value.AsString(), trace.SpanKindServer
	}
	ctx, span := o.tracer.Start(telemetry.Extract(ctx, r.Header), name, trace.WithSpanKind(kind))
	if span.IsRecording() {
		span.SetAttributes(telemetry.ServiceKey.String(r.Service), telemetry.InstanceKey.String(r.Instance), telemetry.ViaKey.String(r.Via), method)
		if r.Path != "" {
			span.SetAttributes(semconv.URLPath(r.Path))
		}
		if r.Via == worker.AuditRelay {
			span.SetAttributes(telemetry.AppKey.String(r.App))
			span.SetAttributes(telemetry.Messaging(semconv.MessagingOperationTypeProcess, "process", r.Subject, r.ID)...)
		}
	}
	return ctx, func(e worker.RequestEnd) {
		code := telemetry.Code(e.Code)
		o.requests.Record(ctx, result{via: r.Via, app: r.App, method: method.Value.AsString(), code: code, status: e.Status}, time.Since(start))
		o.received.Add(ctx, e.BytesIn)
		o.sent.Add(ctx, e.BytesOut)
		if span.IsRecording() {
			span.SetAttributes(telemetry.CodeKey.String(code), telemetry.OutcomeKey.String(outcome(code)))
			if e.Status != 0 {
				span.SetAttributes(semconv.HTTPResponseStatusCode(e.Status))
			}
			if e.Code != "" {
				span.SetAttributes(semconv.ErrorTypeKey.String(code))
				span.SetStatus(codes.Error, "")
			} else if e.Status >= http.StatusInternalServerError {
				span.SetStatus(codes.Error, "")
			}
		}
		span.End()
	}
}

// Upstream is for worker.Forward and worker.NewFront: requests to the app are spans of kind client, and carry them on.
func (o *Observer) Upstream(next http.RoundTripper) http.RoundTripper {
	return telemetry.Client(next, o.tracer)
}

// Ask is for worker.LookupConfig.Ask: it observes the questions to the workspace.
func (o *Observer) Ask(next func(context.Context, relay.Token) (*worker.User, error)) func(context.Context, relay.Token) (*worker.User, error) {
	return func(ctx context.Context, token relay.Token) (*worker.User, error) {
		start := time.Now()
		ctx, span := o.tracer.Start(ctx, "look up user")
		user, err := next(ctx, token)
		code := telemetry.CodeOK
		if err != nil {
			code = string(relay.AsError(err).Code)
			if errors.Is(err, context.DeadlineExceeded) {
				code = string(relay.CodeWorkspaceDown)
			}
			span.SetAttributes(semconv.ErrorTypeKey.String(code))
			span.SetStatus(codes.Error, "")
		}
		span.End()
		o.lookups.Record(ctx, code, time.Since(start))
		return user, err
	}
}

// Watch adds what the worker knows of itself.
func (o *Observer) Watch(w *worker.Worker) error {
	var s worker.Stats
	all := telemetry.NewObserved(o.meter)
	all.Gauge("obo.worker.requests.in_flight", "{request}", "Requests under way", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.InFlight)) })
	all.Gauge("obo.worker.requests.waiting", "{request}", "Of the requests under way, those that wait for a slot", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.Waiting)) })
	all.Gauge("obo.worker.requests.capacity", "{request}", "Requests served at once", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.Capacity)) })
	all.Counter("obo.worker.messages.dropped", "{message}", "Messages and frames that changed nothing: forged, repeated, malformed or late", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.Dropped)) })
	all.Counter("obo.worker.messages.refused", "{message}", "Requests that were answered unsealed, by code", func(report func(int64, ...attribute.KeyValue)) {
		for _, code := range []relay.Code{relay.CodeRefused, relay.CodeClockSkew, relay.CodeReplayFull} {
			report(int64(s.Refused[code]), telemetry.CodeKey.String(string(code)))
		}
	})
	all.Gauge("obo.worker.replay.ids", "{id}", "Request ids remembered, so that none is executed twice", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.ReplayCache)) })
	all.Gauge("obo.worker.replay.capacity", "{id}", "Request ids remembered at most; then requests are refused", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.ReplayCapacity)) })
	all.Gauge("obo.worker.grants.cached", "{grant}", "Opened grants kept for reuse", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.GrantsCached)) })
	all.Counter("obo.worker.grants.opened", "{grant}", "Grants opened", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.GrantsOpened)) })
	all.Counter("obo.worker.audit.failures", "{record}", "Audit records that could not be kept", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.AuditFailures)) })
	all.Gauge("obo.worker.key.age", "s", "Age of the announced instance key", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.KeyAge.Seconds())) })
	all.Gauge("obo.worker.info", "{worker}", "Always 1; the attribute is the worker's instance id", func(report func(int64, ...attribute.KeyValue)) {
		report(1, telemetry.InstanceKey.String(w.Instance()))
	})
	all.NATS(func() relay.ConnStats { return s.NATS })
	return all.Register(func() { s = w.Stats() })
}
