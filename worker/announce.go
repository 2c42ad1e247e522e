package worker

import (
	"context"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"

	"github.com/obo-relay/obo-relay/relay"
)

// discover is open to every app, so there is a limit to how often it is answered: once in a pause, and a few times at once for
// publishers that start with the worker, whose callers wait.
const (
	discoverPause = 100 * time.Millisecond
	discoverBurst = 4
)

// announcer publishes announcements: now and then, and soon after each poke.
type announcer struct {
	w    *Worker
	seq  uint64
	poke chan struct{} // capacity 1
}

func newAnnouncer(w *Worker) *announcer { return &announcer{w: w, poke: make(chan struct{}, 1)} }

// soon asks for an announcement. It never blocks.
func (a *announcer) soon() {
	select {
	case a.poke <- struct{}{}:
	default:
	}
}

// run announces until ctx ends, for the first time when asked to by whoever sees the connection come up.
func (a *announcer) run(ctx context.Context, announce func(context.Context)) {
	limit := rate.NewLimiter(rate.Every(discoverPause), discoverBurst)
	for {
		timer := time.NewTimer(relay.AnnounceEvery*4/5 + rand.N(relay.AnnounceEvery*2/5))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-a.poke:
		case <-timer.C:
		}
		timer.Stop()
		if limit.Wait(ctx) != nil {
			return
		}
		select {
		case <-a.poke: // whoever has asked by now hears this one
		default:
		}
		announce(ctx)
	}
}

// announce publishes one announcement, after what was subscribed has reached the server: whoever hears it can send.
func (a *announcer) announce(ctx context.Context) {
	w := a.w
	nc := w.nc.NATS()
	if !nc.IsConnected() {
		return
	}
	if most := nc.MaxPayload(); most < relay.MinMaxPayload {
		w.log.Error("not announced: raise the NATS server's max_payload", "max_payload", most, "needed", relay.MinMaxPayload)
		return
	}
	flush, done := context.WithTimeout(ctx, 2*time.Second)
	defer done()
	if err := nc.FlushWithContext(flush); err != nil {
		if ctx.Err() != nil {
			return
		}
		w.log.Warn("not announced: the NATS server does not answer", "error", err)
		return
	}
	if w.deaf.Load() && w.state() != relay.Gone { // the log says why
		return
	}
	a.seq++
	jws, err := relay.Announcement{
		Service: w.cfg.Service, Instance: w.instance, Seq: a.seq, State: w.state(),
		InFlight: int(w.stats.inFlight.Load()), Capacity: w.cfg.MaxInFlight, MaxBody: w.cfg.MaxBody,
		Version: w.cfg.Version, Server: nc.ConnectedServerId(),
	}.Sign(*w.signer.Load(), w.keys.announced(), w.cfg.Now())
	if err == nil {
		err = nc.Publish(w.subjects.Announce(w.cfg.Service), []byte(jws))
	}
	if err != nil {
		w.log.Warn("not announced", "error", err)
	}
}
