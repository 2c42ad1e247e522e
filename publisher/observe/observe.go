// Package observe makes traces and metrics of a publisher, with OpenTelemetry's API. obo-publisher does so where OTEL_* or
// --metrics ask for it; a Go UI with an OpenTelemetry set-up of its own hands its providers in:
//
//	o, err := observe.New(otel.GetTracerProvider(), otel.GetMeterProvider())
//	t, err := publisher.New(publisher.Config{…, OnAttempt: o.Attempt})
//	err = o.Watch(t)
//	client := &http.Client{Transport: o.Transport(t)}
//
// A request is a span of kind producer. Its trace goes on in the worker, since the request carries a traceparent header.
package observe

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/telemetry"
)

const scope = "github.com/obo-relay/obo-relay/publisher"

// Observer observes one publisher.
type Observer struct {
	tracer    trace.Tracer
	meter     metric.Meter
	durations *telemetry.Durations[result]
	sent      metric.Int64Counter
	received  metric.Int64Counter
	attempts  metric.Int64Counter
	services  sync.Map // name → []metric.AddOption, made once
}

// result is what tells requests apart in metrics.
type result struct {
	service, method, code, outcome string
	status                         int // 0: no reply
}

func (r result) attributes() []attribute.KeyValue {
	all := []attribute.KeyValue{
		telemetry.ServiceKey.String(r.service), telemetry.Method(r.method), telemetry.CodeKey.String(r.code), telemetry.OutcomeKey.String(r.outcome),
	}
	if r.status != 0 {
		all = append(all, semconv.HTTPResponseStatusCode(r.status))
	}
	return all
}

// New makes the instruments.
func New(tracers trace.TracerProvider, meters metric.MeterProvider) (*Observer, error) {
	o := &Observer{tracer: tracers.Tracer(scope), meter: meters.Meter(scope)}
	var faults [4]error
	o.durations, faults[0] = telemetry.NewDurations(o.meter, "obo.publisher.request.duration", "Requests to services, to the end of the reply", result.attributes)
	o.sent, faults[1] = o.meter.Int64Counter("obo.publisher.body.sent", metric.WithUnit("By"), metric.WithDescription("Bytes of request bodies"))
	o.received, faults[2] = o.meter.Int64Counter("obo.publisher.body.received", metric.WithUnit("By"), metric.WithDescription("Bytes of reply bodies"))
	o.attempts, faults[3] = o.meter.Int64Counter("obo.publisher.attempts", metric.WithUnit("{attempt}"), metric.WithDescription("Requests sent to a worker; more than there are requests, where some were tried elsewhere"))
	return o, errors.Join(faults[:]...)
}

// Attempt is for publisher.Config.OnAttempt: it notes in the request's span where it goes.
func (o *Observer) Attempt(ctx context.Context, a publisher.Attempt) {
	o.attempts.Add(ctx, 1, o.service(a.Service)...)
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(telemetry.InstanceKey.String(a.Instance))
	span.SetAttributes(telemetry.Messaging(semconv.MessagingOperationTypeSend, "send", a.Subject, a.ID)...)
	span.AddEvent("attempt", trace.WithAttributes(telemetry.InstanceKey.String(a.Instance), semconv.MessagingMessageID(a.ID.String())))
}

// service is the attribute of a counter.
func (o *Observer) service(name string) []metric.AddOption {
	set, ok := o.services.Load(name)
	if !ok {
		set, _ = o.services.LoadOrStore(name, []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(telemetry.ServiceKey.String(name)))})
	}
	return set.([]metric.AddOption)
}

// Handler is a sidecar whose requests are spans of kind server.
func (o *Observer) Handler(service string, sidecar http.Handler) http.Handler {
	return telemetry.Server(sidecar, o.tracer, telemetry.ServiceKey.String(service))
}

// Watch adds what the transport knows of itself.
func (o *Observer) Watch(t *publisher.Transport) error {
	var s publisher.Stats
	all := telemetry.NewObserved(o.meter)
	all.Gauge("obo.publisher.requests.in_flight", "{request}", "Requests under way", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.InFlight)) })
	all.Gauge("obo.publisher.requests.capacity", "{request}", "Requests under way at most", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.Capacity)) })
	all.Gauge("obo.publisher.grants.cached", "{grant}", "Grants kept for reuse", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.GrantsCached)) })
	all.Counter("obo.publisher.grants.sealed", "{grant}", "Grants made", func(report func(int64, ...attribute.KeyValue)) { report(int64(s.GrantsSealed)) })
	all.Gauge("obo.publisher.instances", "{instance}", "Worker processes known, by state: ready, draining or silent", func(report func(int64, ...attribute.KeyValue)) {
		for service, known := range s.Services {
			for state, n := range known.Instances {
				report(int64(n), telemetry.ServiceKey.String(service), telemetry.StateKey.String(state))
			}
		}
	})
	all.Counter("obo.publisher.announcements.refused", "{announcement}", "Announcements that were not believed, by code", func(report func(int64, ...attribute.KeyValue)) {
		for service, known := range s.Services {
			report(int64(known.Refused[relay.CodeWorkerUntrusted]), telemetry.ServiceKey.String(service), telemetry.CodeKey.String(string(relay.CodeWorkerUntrusted)))
			report(int64(known.Refused[relay.CodeClockSkew]), telemetry.ServiceKey.String(service), telemetry.CodeKey.String(string(relay.CodeClockSkew)))
			report(int64(known.Refused[relay.CodeRefused]), telemetry.ServiceKey.String(service), telemetry.CodeKey.String(string(relay.CodeRefused)))
		}
	})
	all.NATS(func() relay.ConnStats { return s.NATS })
	return all.Register(func() { s = t.Stats() })
}
