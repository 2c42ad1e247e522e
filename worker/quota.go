package worker

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/obo-relay/obo-relay/relay"
)

// quotas bound what one app can take of this worker before its requests have proved anything, so that a flood on one app's
// subjects costs that app, and not the others (PROTOCOL.md §8, check 1). The NATS server sees to it that only the app
// publishes there.
type quotas struct {
	size    int     // requests known at once, of all apps
	grants  float64 // new grants opened a second, for each app
	strange *quota  // shared by all names that the trust file does not have

	mu    sync.Mutex
	total int
	apps  map[string]*quota
}

// quota is one app's share.
type quota struct {
	inFlight int           // guarded by quotas.mu
	grants   *rate.Limiter // public-key work
	dear     chan struct{} // bounds what of it is done at once
	log      *rate.Limiter // lines about messages that anybody who has the app's NATS user may send
	pending  atomic.Int64  // bytes of frames that overtook the admission of their requests
}

const (
	grantBurst    = 5       // times the rate
	refusalLines  = 50      // a second and app
	maxPendingApp = 8 << 20 // bytes of quota.pending
)

func newQuotas(size int, grants float64, trust *relay.Trust) *quotas {
	q := &quotas{size: size, grants: grants, apps: map[string]*quota{}}
	q.strange = q.make()
	q.setTrust(trust)
	return q
}

func (q *quotas) make() *quota {
	return &quota{
		// The burst lets everybody come at once after a restart. Even then not all processors are taken.
		grants: rate.NewLimiter(rate.Limit(q.grants), max(1, int(grantBurst*q.grants))),
		dear:   make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		log:    rate.NewLimiter(refusalLines, refusalLines),
	}
}

// setTrust keeps a quota for each app that the trust file names.
func (q *quotas) setTrust(trust *relay.Trust) {
	q.mu.Lock()
	defer q.mu.Unlock()
	apps := map[string]*quota{}
	for _, name := range trust.Names(relay.RoleApp) {
		if apps[name] = q.apps[name]; apps[name] == nil {
			apps[name] = q.make()
		}
	}
	q.apps = apps
}

func (q *quotas) of(app string) *quota {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.find(app)
}

func (q *quotas) find(app string) *quota {
	if a := q.apps[app]; a != nil {
		return a
	}
	return q.strange
}

// enter counts a request in, or refuses it: one app gets no more than is left for the others. So a single one can have half
// of the room, and whoever comes beside it always finds some.
func (q *quotas) enter(app string) (*quota, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a := q.find(app)
	if a.inFlight >= q.size-q.total {
		return a, false
	}
	a.inFlight++
	q.total++
	return a, true
}

func (q *quotas) leave(a *quota) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a.inFlight--
	q.total--
}

// mayWait reports whether that many bytes more may wait for admissions; if so they are counted.
func (a *quota) mayWait(bytes int) bool {
	if a.pending.Add(int64(bytes)) <= maxPendingApp {
		return true
	}
	a.pending.Add(-int64(bytes))
	return false
}

// mayOpen reports whether the app may have another new grant opened.
func (a *quota) mayOpen(now time.Time) bool { return a.grants.AllowN(now, 1) }
