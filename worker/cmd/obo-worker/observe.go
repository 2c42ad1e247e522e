package main

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/telemetry/export"
	"github.com/obo-relay/obo-relay/worker"
	"github.com/obo-relay/obo-relay/worker/observe"
)

// observing is what the flags or the environment ask to be observed.
type observing struct {
	exporter *export.Exporter
	observer *observe.Observer // nil: nothing
}

func (f flags) observe(log *slog.Logger) (*observing, error) {
	exporter, err := f.Telemetry.New(context.Background(), command, log)
	o := &observing{exporter: exporter}
	if exporter.On() {
		o.observer, err = observe.New(exporter.Tracers(), exporter.Meters())
	}
	return o, err
}

func (o *observing) request() worker.Observer {
	if o.observer == nil {
		return nil
	}
	return o.observer.Request
}

func (o *observing) upstream() []func(http.RoundTripper) http.RoundTripper {
	if o.observer == nil {
		return nil
	}
	return []func(http.RoundTripper) http.RoundTripper{o.observer.Upstream}
}

func (o *observing) ask(next func(context.Context, relay.Token) (*worker.User, error)) func(context.Context, relay.Token) (*worker.User, error) {
	if o.observer == nil {
		return next
	}
	return o.observer.Ask(next)
}

func (o *observing) watch(w *worker.Worker) error {
	if o.observer == nil {
		return nil
	}
	return o.observer.Watch(w)
}
