package publisher

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/obo-relay/obo-relay/relay"
)

// directory knows the worker processes of each service from their announcements.
type directory struct {
	now func() time.Time

	mu       sync.Mutex
	trust    *relay.Trust
	services map[string]*service
}

type service struct {
	instances map[string]*instance
	refused   map[relay.Code]uint64 // announcements that were not believed
	fault     *relay.Error          // of the last of them, or of the server when it denied asking for workers
	faultAt   time.Time
	deaf      *relay.Error  // the server denies hearing of workers; until it allows it, or the next connection
	changed   chan struct{} // closed and replaced when an instance comes or changes
	limit     *rate.Limiter // announcements whose signature is checked
}

// What a service's workers can make a publisher do and keep. A worker announces itself every 5 s, and at most ten times a
// second when it is asked to; one that is not heard this time is heard the next.
const (
	announcementRate  = 200 // a second, twice as many at once
	maxInstances      = 1000
	errTooManyHeard   = fault("announcement: the service's workers announce themselves too often")
	errTooManyWorkers = fault("announcement: the service has 1000 workers, the limit")
)

type fault string

func (f fault) Error() string { return string(f) }

// instance is one worker process.
type instance struct {
	service  string
	id       string
	said     *relay.Announcement // newest; replaced, never changed
	until    time.Time           // forgotten then
	avoid    bool                // it fell silent; until it announces itself again
	inFlight *atomic.Int64       // requests of this publisher under way there
}

// tombstone is how long an instance's seq is remembered after it was forgotten: longer than any announcement of it could
// still be accepted, so that an old one cannot bring it back.
const tombstone = relay.AnnouncementLife + 2*relay.Leeway

func newDirectory(trust *relay.Trust, now func() time.Time) *directory {
	d := &directory{now: now, services: map[string]*service{}}
	d.setTrust(trust)
	return d
}

// setTrust forgets at once every instance that announced itself with a key that is no longer trusted, but not its seq. The
// others stay, so that no request waits while trust is added.
func (d *directory) setTrust(trust *relay.Trust) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trust = trust
	now := d.now()
	for _, name := range trust.Names(relay.RoleService) {
		if d.services[name] == nil {
			d.services[name] = &service{
				instances: map[string]*instance{}, refused: map[relay.Code]uint64{}, changed: make(chan struct{}),
				limit: rate.NewLimiter(announcementRate, 2*announcementRate),
			}
		}
	}
	for name, s := range d.services {
		for _, i := range s.instances {
			if now.Before(i.until) && !trust.Trusts(relay.RoleService, name, i.said.SignedBy()) {
				i.until = now
			}
		}
	}
}

// service returns the service if the trust file names it, nil otherwise; the caller holds mu.
func (d *directory) service(name string) *service {
	if !d.trust.Knows(relay.RoleService, name) {
		return nil
	}
	return d.services[name]
}

// heard takes in an announcement on the subject of the named service. Its error says why it was not believed.
func (d *directory) heard(name string, payload []byte) error {
	now := d.now()
	d.mu.Lock()
	trust := d.trust
	allowed := d.services[name] == nil || d.services[name].limit.AllowN(now, 1)
	d.mu.Unlock()
	if !allowed {
		return relay.Wrap(relay.CodeRefused, errTooManyHeard, "dropped")
	}
	a, err := trust.VerifyAnnouncement(name, payload, now)
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.service(name)
	if s == nil || d.trust != trust {
		return nil
	}
	if err != nil {
		e := relay.AsError(err)
		s.refused[e.Code]++
		if e.Code != relay.CodeRefused {
			s.fault, s.faultAt = e, now
		}
		return e
	}
	i := s.instances[a.Instance]
	if i != nil && a.Seq <= i.said.Seq {
		return relay.NewError(relay.CodeRefused, "announcement: repeated or out of order")
	}
	if i == nil {
		if s.forget(now); len(s.instances) >= maxInstances {
			return relay.Wrap(relay.CodeRefused, errTooManyWorkers, "dropped")
		}
		i = &instance{service: name, id: a.Instance, inFlight: new(atomic.Int64)}
		s.instances[a.Instance] = i
	}
	i.said, i.until, i.avoid = a, now.Add(relay.AnnouncementLife), false
	if a.State == relay.Gone {
		i.until = now // its seq is remembered, so that an older announcement cannot bring it back
	}
	s.fault, s.deaf = nil, nil
	close(s.changed)
	s.changed = make(chan struct{})
	s.forget(now)
	return nil
}

// denied notes that the NATS server does not let this user ask for workers, or, for as long as it does not say otherwise, hear of
// them.
func (d *directory) denied(name string, hearing bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.service(name)
	if s == nil {
		return
	}
	fault := relay.Wrap(relay.CodeNATSDenied, err, "the server does not let this user look for workers of service "+name)
	if hearing {
		s.deaf = fault
	} else {
		s.fault, s.faultAt = fault, d.now()
	}
}

// allowed notes that the NATS server lets this user hear of a service's workers. "" is all of them, of which it has not said
// otherwise.
func (d *directory) allowed(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for service, s := range d.services {
		if name == "" || name == service {
			s.deaf = nil
		}
	}
}

// forget drops instances that no announcement can bring back.
func (s *service) forget(now time.Time) {
	for id, old := range s.instances {
		if now.Sub(old.until) > tombstone {
			delete(s.instances, id)
		}
	}
}

// candidate is what choosing needs to know of an instance, a snapshot.
type candidate struct {
	*instance
	said  *relay.Announcement
	class int // 0 ready, 1 draining, 2 avoided
}

// candidates returns the instances that live, and a channel that is closed when there is news.
func (d *directory) candidates(name string) (known bool, out []candidate, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.service(name)
	if s == nil {
		return false, nil, nil
	}
	now := d.now()
	for _, i := range s.instances {
		if !now.Before(i.until) || now.Unix() >= i.said.KeyExp {
			continue
		}
		c := candidate{instance: i, said: i.said}
		switch {
		case i.avoid:
			c.class = 2
		case i.said.State == relay.Draining:
			c.class = 1
		}
		out = append(out, c)
	}
	return true, out, s.changed
}

// none is the reason why a service has no instance.
func (d *directory) none(name string) *relay.Error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.service(name)
	switch {
	case s == nil:
	case s.deaf != nil:
		e := *s.deaf
		return &e
	case s.fault != nil && d.now().Sub(s.faultAt) < relay.AnnouncementLife:
		e := *s.fault
		return &e
	}
	return relay.Errorf(relay.CodeNoWorker, "no worker of service %s has announced itself", name)
}

// avoid notes that an instance fell silent.
func (d *directory) avoid(i *instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i.avoid = true
}

// known reports whether the trust file names the service.
func (d *directory) known(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.service(name) != nil
}
