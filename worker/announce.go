package worker

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// discoverPause is the least time between two announcements: discover is open to every app.
const discoverPause = 100 * time.Millisecond

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

// run announces until ctx ends.
func (a *announcer) run(ctx context.Context) {
	for {
		a.announce(ctx)
		if !pause(ctx, discoverPause) {
			return
		}
		every := relay.AnnounceEvery - discoverPause
		timer := time.NewTimer(every*4/5 + rand.N(every*2/5))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-a.poke:
		case <-timer.C:
		}
		timer.Stop()
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
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
