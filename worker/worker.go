package worker

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// Worker consumes the requests that are sealed to it and serves them with its handler. Make it with New, run it with Run.
type Worker struct {
	cfg       Config
	log       *slog.Logger
	instance  string
	subjects  relay.Subjects
	keys      *keyring
	admission *admission
	exchanges *exchanges
	crew      *crew
	announcer *announcer
	signer    atomic.Pointer[relay.Identity]
	stats     *stats
	budget    *relay.Budget
	slots     *slots
	gate      *gate
	audit     *auditTrail
	quotas    *quotas
	start     time.Time
	nc        *relay.Conn   // set before ready is closed
	ready     chan struct{} // closed when Run has a connection object
	slow      atomic.Uint64 // times that NATS dropped messages for us
	deaf      atomic.Bool   // the server denies the requests; until it allows them, or the next connection

	phase    atomic.Int32
	lastHead atomic.Int64 // elapsed time of the last new request
}

// Requests that are admitted at all: as many as MaxInFlight are served, as many wait, and the others are told so under seal
// before they are let go. Over the hard cap the answer is unsealed, and proves nothing. One app can reach half of it.
const (
	hardFactor = 8
	hardLeast  = 512
)

// lastWord is how long a worker that leaves tries to say so, to a NATS server that may be silent.
const lastWord = time.Second

// forgetEvery is how often grants are dropped that have run out.
const forgetEvery = 10 * time.Second

// The phases of a worker's life.
const (
	phaseReady = iota
	phaseDraining
	phaseRefusing
	phaseGone
)

// New checks the configuration, reports all its faults at once, and makes the instance key.
func New(cfg Config) (*Worker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	w := &Worker{
		cfg: cfg, log: cfg.Log, instance: relay.NewInstance(), exchanges: newExchanges(), crew: newCrew(), start: cfg.Now(), ready: make(chan struct{}),
		stats: newStats(cfg.Now()), budget: relay.NewBudget(relay.ConnectionBudget), slots: newSlots(cfg.MaxInFlight),
		quotas: newQuotas(max(hardLeast, hardFactor*cfg.MaxInFlight), cfg.GrantRate, cfg.Trust),
	}
	w.slots.setApps(len(cfg.Trust.Names(relay.RoleApp)))
	w.signer.Store(&cfg.Identity)
	w.gate = newGate(cfg)
	w.audit = &auditTrail{to: cfg.Audit, required: cfg.AuditRequired, log: cfg.Log, service: cfg.Service, instance: w.instance}
	w.subjects, _ = relay.NewSubjects(cfg.Prefix) // validated
	var err error
	if w.keys, err = newKeyring(cfg.KeyLife, cfg.Now); err != nil {
		return nil, err
	}
	if w.admission, err = newAdmission(cfg, w.keys); err != nil {
		return nil, err
	}
	w.announcer = newAnnouncer(w)
	return w, nil
}

// Instance is the id of this worker process.
func (w *Worker) Instance() string { return w.instance }

// SetTrust puts another trust file in force at once: grants of a key that it no longer names are refused from now on. What
// is under way goes on.
func (w *Worker) SetTrust(t *relay.Trust) {
	w.quotas.setTrust(t)
	w.slots.setApps(len(t.Names(relay.RoleApp)))
	w.admission.setTrust(t)
}

// SetIdentity announces this worker with another identity key from now on. Publishers must trust it already.
func (w *Worker) SetIdentity(id relay.Identity) {
	w.signer.Store(&id)
	w.announcer.soon()
}

func (w *Worker) elapsed() time.Duration { return w.cfg.Now().Sub(w.start) }

func (w *Worker) state() relay.State {
	switch w.phase.Load() {
	case phaseReady:
		return relay.Ready
	case phaseGone:
		return relay.Gone
	}
	return relay.Draining
}

func (w *Worker) refusing() bool { return w.phase.Load() >= phaseRefusing }

// Run connects, announces and serves until ctx ends; then it drains: it says so, goes on serving until no new request has
// come for DrainQuiet, refuses what comes later, waits for what is under way, and leaves. It returns nil after a drain. Run may
// be called once.
func (w *Worker) Run(ctx context.Context) error {
	up := make(chan struct{}, 1)
	nats := w.cfg.NATS
	nats.Name, nats.Log = "obo-worker "+w.cfg.Service+" "+w.instance, w.log
	nats.OnUp = func() {
		select {
		case up <- struct{}{}:
		default:
		}
	}
	nats.OnDown, nats.OnDenied, nats.OnAllowed, nats.OnSlow = func() { w.deaf.Store(false) }, w.denied, w.allowed, func() { w.slow.Add(1) }
	nc, err := relay.Keep(nats)
	if err != nil {
		return err
	}
	w.nc = nc
	close(w.ready)
	defer w.crew.dismiss()
	defer nc.Close()
	if err := w.subscribe(); err != nil {
		return err
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	background.Go(func() { w.announcer.run(life, w.announcer.announce) })
	background.Go(func() { w.keep(life, up) })
	w.log.Info("worker started", "service", w.cfg.Service, "instance", w.instance, "identity", w.signer.Load().Kid(),
		"trusted_apps", w.cfg.Trust.Names(relay.RoleApp), "version", w.cfg.Version)
	<-ctx.Done()
	w.drain()
	stop()
	background.Wait()
	w.phase.Store(phaseGone)
	last, done := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
	defer done()
	w.announcer.announce(last)           // publishers forget this instance at once
	_ = nc.NATS().FlushWithContext(last) // best effort
	return nil
}

// subscribe makes the one subscription for requests, and those of discovery and of the micro service.
func (w *Worker) subscribe() error {
	if err := w.nc.Subscribe(w.subjects.Worker(w.cfg.Service, w.instance), w.receive, 1<<18, 64<<20); err != nil {
		return err
	}
	if err := w.nc.Subscribe(w.subjects.Discover(w.cfg.Service), func(*nats.Msg) { w.announcer.soon() }, 0, 0); err != nil {
		return err
	}
	return w.serveMicro()
}

// denied notes that the server does not let this worker hear requests.
func (w *Worker) denied(err error) {
	if strings.Contains(err.Error(), `Subscription to "`+w.subjects.Worker(w.cfg.Service, w.instance)+`"`) {
		w.deaf.Store(true)
	}
}

// allowed notes that the server lets a subscription through that it denied.
func (w *Worker) allowed(subject string) {
	if subject == w.subjects.Worker(w.cfg.Service, w.instance) {
		w.deaf.Store(false)
		w.announcer.soon()
	}
}

// receive looks up and enqueues; it never blocks.
func (w *Worker) receive(m *nats.Msg) {
	switch addr := w.subjects.Parse(m.Subject); addr.Kind {
	case relay.KindRequest:
		w.receiveRequest(m, addr)
	case relay.KindControl:
		if len(m.Data) == 0 || w.exchanges.deliver(exchangeKey{addr.App, addr.ID}, m.Data) != nil {
			w.stats.dropped.Add(1)
		}
	default:
		w.stats.dropped.Add(1)
	}
}

// receiveRequest makes check 1 of PROTOCOL.md §8.
func (w *Worker) receiveRequest(m *nats.Msg, from relay.Address) {
	reply := w.subjects.Parse(m.Reply)
	if reply.Kind != relay.KindReply || reply.App != from.App {
		w.stats.dropped.Add(1)
		if w.quotas.of(from.App).log.Allow() {
			w.log.Warn("dropped a request whose reply subject is not one of its app's", "app", from.App)
		}
		return
	}
	quota, ok := w.quotas.enter(from.App)
	if !ok {
		w.refuseUnsealed(quota, m.Reply, from.App, reply.ID, relay.NewError(relay.CodeRefused, "far over the limit of requests under way"))
		return
	}
	x := w.exchanges.start(exchangeKey{from.App, reply.ID}, quota)
	if x == nil {
		w.quotas.leave(quota)
		w.stats.dropped.Add(1) // a repeated id gets no answer
		return
	}
	w.stats.inFlight.Add(1)
	w.lastHead.Store(int64(w.elapsed()))
	w.crew.run(func() {
		defer w.stats.inFlight.Add(-1)
		defer w.quotas.leave(quota)
		w.serve(x, m, from, reply)
	})
}

// refuseUnsealed answers a message that nobody could be proved to have sent. The code decides nothing; the reason is for
// this worker's log.
func (w *Worker) refuseUnsealed(quota *quota, subject, app string, id relay.ID, e *relay.Error) {
	defer w.stats.dropped.Add(1) // when it is counted the answer is out
	w.stats.refusedUnsealed(e.Code)
	if e.Code != relay.CodeGrantUnknown && quota.log.Allow() { // which only asks for the grant
		w.log.Warn("refused", "request_id", id.String(), "app", app, "code", string(e.Code), "reason", e.Error())
	}
	_ = w.nc.NATS().Publish(subject, relay.UnsealedRefusal(e.Code)) // best effort: it decides nothing
}

// keep is the worker's housekeeping: keep-alives, retention, key rotation, the clock, and resends after a reconnect.
func (w *Worker) keep(ctx context.Context, up <-chan struct{}) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-forget.C:
			w.admission.forget()
		case <-up:
			w.announcer.soon()
			w.exchanges.resend()
		case <-tick.C:
			if step, err := w.admission.clockStep(); step != 0 {
				w.log.Warn("the wall clock was stepped: all instance keys and grants are dropped", "step", step)
				w.newKeys(err)
			}
			if rotated, err := w.keys.rotate(); rotated || err != nil {
				w.newKeys(err)
			}
			w.exchanges.tick(w.elapsed())
		}
	}
}

func (w *Worker) newKeys(err error) {
	if err != nil {
		w.log.Error("cannot make an instance key", "error", err)
		return
	}
	w.log.Info("new instance key", "key", w.keys.announced().Kid())
	w.announcer.soon()
}

// drain leaves without losing a request: publishers hear that it drains before it refuses anything.
func (w *Worker) drain() {
	w.log.Info("draining", "in_flight", w.stats.inFlight.Load())
	deadline := time.NewTimer(w.cfg.DrainTimeout)
	defer deadline.Stop()
	w.phase.Store(phaseDraining)
	w.announcer.soon()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	begun := w.elapsed()
	for {
		select {
		case <-deadline.C:
			w.phase.Store(phaseRefusing) // if requests never ceased to come: what is served from now on would be cut off unheard
			w.interrupt()
			w.settle()
			return
		case <-tick.C:
		}
		switch quiet := w.elapsed() - max(begun, time.Duration(w.lastHead.Load())); {
		case !w.refusing() && quiet >= w.cfg.DrainQuiet:
			w.phase.Store(phaseRefusing)
			begun = w.elapsed()
		// Whoever has not heard yet gets a sealed refusal, and goes elsewhere, instead of silence.
		case w.refusing() && quiet >= w.cfg.DrainQuiet/2 && w.stats.inFlight.Load() == 0:
			w.log.Info("drained")
			return
		}
	}
}

// interrupt ends what is still under way when the time to drain is over, and tells the callers.
func (w *Worker) interrupt() {
	w.log.Warn("the time to drain is over: requests under way are broken off", "in_flight", w.stats.inFlight.Load())
	var wait sync.WaitGroup
	for _, x := range w.exchanges.underWay() {
		wait.Go(func() {
			x.interrupt(relay.NewError(relay.CodeHandlerFailed, "the worker stopped while the request was under way"))
		})
	}
	wait.Wait()
}

// settleTime is for handlers that return when they are broken off.
const settleTime = 500 * time.Millisecond

// settle lets what was broken off end, so that the last audit records are kept.
func (w *Worker) settle() {
	deadline := time.NewTimer(settleTime)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for w.stats.inFlight.Load() > 0 {
		select {
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}
