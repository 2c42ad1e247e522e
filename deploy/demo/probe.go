package demo

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// probe notes when a request passes the points at which the relay calls out: the clocks of both ends, the look-up, the
// handler, and the sidecar's response. It is in nobody's way and adds nothing to the messages.
type probe struct {
	mu    sync.Mutex
	on    bool
	marks marks
}

// marks are the moments of one request, all on this process's monotonic clock.
type marks struct {
	publisher, worker       []time.Time // every reading of the ends' clocks
	lookupBegin, lookupEnd  time.Time
	handlerBegin, handleEnd time.Time
	respond                 time.Time // the sidecar has opened the reply and begins its response
}

func newProbe() *probe { return &probe{} }

// begin starts to note, end stops and returns what was noted.
func (p *probe) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on, p.marks = true, marks{}
}

func (p *probe) end() marks {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.on = false
	return p.marks
}

func (p *probe) note(set func(*marks, time.Time)) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.on {
		set(&p.marks, now)
	}
}

func (p *probe) publisherClock() time.Time {
	p.note(func(m *marks, now time.Time) { m.publisher = append(m.publisher, now) })
	return time.Now()
}

func (p *probe) workerClock() time.Time {
	p.note(func(m *marks, now time.Time) { m.worker = append(m.worker, now) })
	return time.Now()
}

// handler notes when the middleware app is handed the request and when it is done.
func (p *probe) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.note(func(m *marks, now time.Time) { m.handlerBegin = now })
		next.ServeHTTP(w, r)
		p.note(func(m *marks, now time.Time) { m.handleEnd = now })
	})
}

// sidecar notes when a response begins.
func (p *probe) sidecar(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&respondNoter{w, p}, r)
	})
}

type respondNoter struct {
	http.ResponseWriter
	p *probe
}

func (w *respondNoter) WriteHeader(status int) {
	w.p.note(func(m *marks, now time.Time) { m.respond = now })
	w.ResponseWriter.WriteHeader(status)
}

func (w *respondNoter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// lookup notes when the worker asks who the person is and when it knows.
func (p *probe) lookup(next worker.Lookup) worker.Lookup { return lookupNoter{next, p} }

type lookupNoter struct {
	worker.Lookup
	p *probe
}

func (l lookupNoter) User(ctx context.Context, token relay.Token) (*worker.User, error) {
	l.p.note(func(m *marks, now time.Time) { m.lookupBegin = now })
	user, err := l.Lookup.User(ctx, token)
	l.p.note(func(m *marks, now time.Time) { m.lookupEnd = now })
	return user, err
}
