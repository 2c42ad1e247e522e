package worker

import (
	"context"
	"net/http"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// Observer watches requests. It is called when one begins: one that an app's signature vouches for, or one at the front
// door. It returns the context of all that is done for the request, and a function that is called once, when it has ended.
type Observer func(ctx context.Context, r RequestBegin) (context.Context, func(RequestEnd))

// RequestBegin is what an Observer may know of a request: no token, query or body.
type RequestBegin struct {
	ID       relay.ID
	Via      string // AuditRelay or AuditFront
	App      string // who sent it, proved by its signature; empty at the front door
	Service  string
	Instance string
	Subject  string      // NATS's; empty at the front door
	Method   string      // empty if it is malformed
	Path     string      // without query; empty if it is malformed
	Header   http.Header // as it came: for its trace context, and nothing else. Read only
}

// RequestEnd is what came of it.
type RequestEnd struct {
	Status            int        // of the reply; 0: none
	Code              relay.Code // of the relay's table; empty for the handler's own reply
	BytesIn, BytesOut int64      // of the bodies
}

// observe tells the observer, if there is one, that a relayed request begins.
func (e *exchangeRun) observe(subject string) (ended func(RequestEnd)) {
	observer := e.w.cfg.Observer
	if observer == nil {
		return nil
	}
	e.ctx, ended = observer(e.ctx, RequestBegin{
		ID: e.call.ID, Via: AuditRelay, App: e.call.App, Service: e.call.Service, Instance: e.w.instance,
		Subject: subject, Method: e.record.Method, Path: e.record.Path, Header: e.a.head.Header,
	})
	return ended
}

// observe is the same for a request at the front door.
func (f *Front) observe(r *http.Request, id relay.ID, record *AuditRecord) (*http.Request, func(RequestEnd)) {
	observer := f.w.cfg.Observer
	if observer == nil {
		return r, nil
	}
	ctx, ended := observer(r.Context(), RequestBegin{
		ID: id, Via: AuditFront, Service: f.w.cfg.Service, Instance: f.w.instance, Method: record.Method, Path: record.Path, Header: r.Header,
	})
	return r.WithContext(ctx), ended
}

// Stats are what a worker knows of itself.
type Stats struct {
	InFlight, Capacity          int
	Waiting                     int                   // of those in flight, for a slot
	Dropped                     uint64                // messages and frames that changed nothing
	Refused                     map[relay.Code]uint64 // of them, requests that were answered unsealed
	ReplayCache, ReplayCapacity int                   // request ids remembered
	GrantsCached                int
	GrantsOpened                uint64
	AuditFailures               uint64        // audit records that could not be kept
	KeyAge                      time.Duration // since the announced instance key was made
	NATS                        relay.ConnStats
}

// Stats reads the worker's counters. It may be called at any time.
func (w *Worker) Stats() Stats {
	s := Stats{
		InFlight: int(w.stats.inFlight.Load()), Capacity: w.cfg.MaxInFlight, Waiting: w.slots.waiting(), Dropped: w.stats.dropped.Load(), Refused: w.stats.readRefused(),
		ReplayCache: w.admission.replay.len(), ReplayCapacity: w.cfg.ReplayCapacity,
		GrantsCached: w.admission.grants.Len(), GrantsOpened: w.admission.opened.Load(),
		AuditFailures: w.audit.failures.Load(),
		KeyAge:        w.cfg.KeyLife - w.keys.announced().Expiry().Sub(w.cfg.Now()),
	}
	select {
	case <-w.ready:
		s.NATS = w.nc.Stats(w.slow.Load())
	default: // Run has not begun
	}
	return s
}
