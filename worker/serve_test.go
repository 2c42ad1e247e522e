package worker

import (
	"errors"
	"log/slog"
	"math"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// runOf is an admitted request at a worker that is not connected.
func runOf(t *testing.T, change func(*relay.RequestHead)) (w *Worker, x *exchange, e *exchangeRun, log *lockedBuffer, kept *keptRecords) {
	t.Helper()
	s := newSealer(t, nil)
	grant, compact := s.grant()
	a, fault := s.begin(s.message(grant, compact, change))
	if fault != nil {
		t.Fatal(fault)
	}
	log, kept = &lockedBuffer{}, &keptRecords{}
	cfg := Config{Service: "middleware", Now: time.Now, Log: slog.New(slog.NewTextHandler(log, nil)), DrainTimeout: time.Second, DrainQuiet: time.Minute}
	w = &Worker{cfg: cfg, log: cfg.Log, stats: newStats(time.Now()), exchanges: newExchanges(), gate: newGate(cfg), admission: s.admission, slots: newSlots(1), start: time.Now()}
	w.audit = &auditTrail{to: kept, log: cfg.Log, service: cfg.Service, instance: s.instance}
	w.announcer = newAnnouncer(w)
	id := relay.NewID()
	stream := relay.NewStream(t.Context(), relay.StreamConfig{
		Role: relay.RoleService, ID: id, Grant: grant, Limit: relay.MaxFrame, Budget: relay.NewBudget(1), Now: time.Now, Request: a.frame,
		Publish: func([]byte, relay.FrameType, int) error { return nil },
	})
	t.Cleanup(stream.Close)
	x = w.exchanges.start(exchangeKey{"ui", id}, s.quota)
	e = newExchangeRun(w, a, stream, Call{ID: id, App: "ui", Service: "middleware", Token: grant.Token})
	e.record = w.audit.record(id, AuditRelay, a.head.Method, a.head.Path, time.Now())
	x.admit(stream, e)
	return w, x, e, log, kept
}

// From the first refusal to the end of its connection a worker serves nothing new.
func TestLeavingWorkerServesNothingNew(t *testing.T) {
	w, _, e, _, _ := runOf(t, func(h *relay.RequestHead) { h.Length = int64(len("body")) })
	for phase, want := range map[int32]relay.Code{phaseReady: "", phaseDraining: "", phaseRefusing: relay.CodeWorkerDraining, phaseGone: relay.CodeWorkerDraining} {
		w.phase.Store(phase)
		var got relay.Code
		if refusal := e.check(); refusal != nil {
			got = refusal.Code
		}
		if got != want {
			t.Errorf("phase %d: %q, want %q", phase, got, want)
		}
	}
}

// What an app writes where a path belongs is logged only if it is one: it may hold what must not be logged.
func TestMalformedPathIsNotLogged(t *testing.T) {
	w, x, e, log, _ := runOf(t, func(h *relay.RequestHead) { h.Method, h.Path = "PO ST-canary", "/x?access_token=canary" })
	e.run()
	w.ended(x, e, time.Now(), nil)
	if text := log.take(); strings.Contains(text, "canary") || !strings.Contains(text, "msg=request") {
		t.Errorf("logged: %s", text)
	}
}

// A time limit that breaks the rules is refused as such (PROTOCOL.md §9), and proved not started; it is not over at once.
func TestTimeoutOutOfRangeIsRefused(t *testing.T) {
	for _, ms := range []int64{0, -1, 86_400_001, math.MaxInt64} {
		synctest.Test(t, func(t *testing.T) {
			w, x, e, _, kept := runOf(t, func(h *relay.RequestHead) { h.TimeoutMS = ms })
			time.Sleep(time.Second) // on the bubble's clock
			e.run()
			w.ended(x, e, time.Now(), nil)
			if got := kept.take(); len(got) != 1 || got[0].Code != relay.CodeBadRequest {
				t.Errorf("%d ms: %+v", ms, got)
			}
		})
	}
}

// The worker's end waits for handlers that return when the time to drain is over, and so for their audit records.
func TestDrainWaitsForWhatIsBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, x, e, _, kept := runOf(t, func(h *relay.RequestHead) { h.TimeoutMS = 60_000 })
		w.stats.inFlight.Add(1)
		go func() {
			defer w.stats.inFlight.Add(-1)
			<-e.ctx.Done()
			time.Sleep(settleTime / 2) // on the bubble's clock
			w.ended(x, e, time.Now(), nil)
		}()
		w.drain()
		if got := kept.take(); len(got) != 1 || got[0].Code != relay.CodeHandlerFailed {
			t.Errorf("the audit records at the worker's end: %+v", got)
		}
		synctest.Wait()
	})
}

// When the time to drain is over nothing more is let to the handler, also if requests have come all the time: nobody would break
// it off, and its caller would hear nothing.
func TestNothingIsServedAfterTheTimeToDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, x, e, _, _ := runOf(t, func(h *relay.RequestHead) { h.TimeoutMS, h.Length = 60_000, int64(len("body")) })
		w.stats.inFlight.Add(1)
		go func() {
			defer w.stats.inFlight.Add(-1)
			<-e.ctx.Done()
			if refusal := e.check(); refusal == nil || refusal.Code != relay.CodeWorkerDraining {
				t.Errorf("a request that comes now: %v", refusal)
			}
			w.ended(x, e, time.Now(), nil)
		}()
		w.drain()
		synctest.Wait()
	})
}

// A token that runs out while its request waits for a slot leads to nothing, also where nobody is looked up.
func TestTokenThatExpiresInTheQueue(t *testing.T) {
	w, x, e, _, _ := runOf(t, func(h *relay.RequestHead) { h.TimeoutMS, h.Length = 600_000, 4 })
	var late atomic.Int64
	w.gate.now = func() time.Time { return time.Now().Add(time.Duration(late.Load())) }
	w.cfg.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("served with a token that has expired") })
	other := person{"ui", 1}
	must(t, w.slots.acquire(t.Context(), other))
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.run()
	}()
	for w.slots.waiting() == 0 {
		runtime.Gosched()
	}
	late.Store(int64(2 * time.Hour))
	w.slots.release(other)
	<-done
	w.ended(x, e, time.Now(), nil)
	if _, code, _ := e.response.result(); code != relay.CodeTokenExpired {
		t.Errorf("the code is %q", code)
	}
}

// A reply that is streaming while another connection takes the place of one that is over waits for it, and does not break off.
func TestRepliesWaitForTheNextConnection(t *testing.T) {
	k, err := relay.Keep(relay.ConnectConfig{URL: as("worker", startJetStream(t, nil))})
	must(t, err)
	defer k.Close()
	w := &Worker{nc: k, cfg: Config{Hints: relay.HintsNone}}
	k.NATS().Close()
	err = w.publisher("x", "y", relay.NewID())([]byte("frame"), relay.FrameData, 0)
	if err == nil || errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("%v: want an error of a connection that will be back", err)
	}
}
