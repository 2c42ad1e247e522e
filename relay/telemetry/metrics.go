package telemetry

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/obo-relay/obo-relay/relay"
)

// buckets of durations, in seconds: from a request within one machine to a report that takes its time.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// Durations is a histogram of seconds by a small number of attribute sets, each of which is made once: K is what tells
// them apart.
type Durations[K comparable] struct {
	histogram  metric.Float64Histogram
	attributes func(K) []attribute.KeyValue
	sets       sync.Map // K → metric.MeasurementOption
}

// NewDurations makes the instrument.
func NewDurations[K comparable](m metric.Meter, name, description string, attributes func(K) []attribute.KeyValue) (*Durations[K], error) {
	h, err := m.Float64Histogram(name, metric.WithDescription(description), metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(buckets...))
	return &Durations[K]{histogram: h, attributes: attributes}, err
}

// Record takes in one duration.
func (d *Durations[K]) Record(ctx context.Context, key K, took time.Duration) {
	set, ok := d.sets.Load(key)
	if !ok {
		set, _ = d.sets.LoadOrStore(key, []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(d.attributes(key)...))})
	}
	d.histogram.Record(ctx, took.Seconds(), set.([]metric.RecordOption)...)
}

// Observed are instruments that are read when somebody asks.
type Observed struct {
	meter       metric.Meter
	instruments []metric.Observable
	read        []func(metric.Observer)
	faults      []error
}

// NewObserved is empty.
func NewObserved(m metric.Meter) *Observed { return &Observed{meter: m} }

// Gauge adds a value that goes up and down. report tells it, once for each set of attributes.
func (o *Observed) Gauge(name, unit, description string, read func(report func(int64, ...attribute.KeyValue))) {
	g, err := o.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
	o.add(g, err, read)
}

// Counter adds a value that only rises.
func (o *Observed) Counter(name, unit, description string, read func(report func(int64, ...attribute.KeyValue))) {
	c, err := o.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
	o.add(c, err, read)
}

func (o *Observed) add(i metric.Int64Observable, err error, read func(func(int64, ...attribute.KeyValue))) {
	o.faults = append(o.faults, err)
	o.instruments = append(o.instruments, i)
	o.read = append(o.read, func(to metric.Observer) {
		read(func(v int64, attributes ...attribute.KeyValue) {
			to.ObserveInt64(i, v, metric.WithAttributes(attributes...))
		})
	})
}

// NATS adds the counters of a connection.
func (o *Observed) NATS(stats func() relay.ConnStats) {
	direction := attribute.Key("obo.direction")
	o.Gauge("obo.nats.connected", "{connection}", "1 while connected to NATS", func(report func(int64, ...attribute.KeyValue)) {
		if stats().Connected {
			report(1)
			return
		}
		report(0)
	})
	o.Counter("obo.nats.reconnects", "{reconnect}", "Times that the connection to NATS was made again", func(report func(int64, ...attribute.KeyValue)) {
		report(int64(stats().Reconnects))
	})
	o.Counter("obo.nats.slow_consumers", "{event}", "Times that messages were dropped because this process was too slow", func(report func(int64, ...attribute.KeyValue)) {
		report(int64(stats().SlowConsumers))
	})
	o.Counter("obo.nats.messages", "{message}", "NATS messages", func(report func(int64, ...attribute.KeyValue)) {
		s := stats()
		report(int64(s.MessagesIn), direction.String("in"))
		report(int64(s.MessagesOut), direction.String("out"))
	})
	o.Counter("obo.nats.traffic", "By", "Bytes of NATS messages", func(report func(int64, ...attribute.KeyValue)) {
		s := stats()
		report(int64(s.BytesIn), direction.String("in"))
		report(int64(s.BytesOut), direction.String("out"))
	})
}

// Register begins. refresh is called once each time that somebody asks, and what it has fetched is read before it is called
// again: OTLP and Prometheus ask at the same time.
func (o *Observed) Register(refresh func()) error {
	if err := errors.Join(o.faults...); err != nil {
		return err
	}
	var one sync.Mutex
	_, err := o.meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		one.Lock()
		defer one.Unlock()
		refresh()
		for _, read := range o.read {
			read(to)
		}
		return nil
	}, o.instruments...)
	return err
}
