package worker

import (
	"context"
	"fmt"
	"hash/maphash"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// slots bounds how many requests are served at once, or opened at once. When all are taken, requests wait in a bounded queue
// that is fair: a slot that becomes free goes to the next app in turn, and within it to the next person in turn. When the
// queue is full, the app with most requests in it gives way to one that has fewer, and within an app the person.
type slots struct {
	size      int // served at once
	perPerson int // of these, by one person
	queueSize int

	mu      sync.Mutex
	perApp  int // of the slots, by one app: all, if there is no other
	taken   int
	queued  int
	running map[person]int
	ofApp   map[string]int // running, by app
	apps    []*appQueue    // with somebody waiting; the front one is next
}

// person is whose request it is, as far as its token tells: a hash, good for this process only.
type person struct {
	app   string
	token uint64
}

type appQueue struct {
	app     string
	persons []*personQueue // with something waiting; the front one is next
}

type personQueue struct {
	person  person
	waiters []chan error // capacity 1 each, oldest first
}

func newSlots(size int) *slots {
	return &slots{
		size: size, perApp: size, perPerson: max(1, size/2), queueSize: size,
		running: map[person]int{}, ofApp: map[string]int{},
	}
}

// newTurns makes slots for what takes a processor and nothing else. Whoever waits for one is not in the scheduler's queue,
// in which all apps' and people's requests stand in one line. Requests under way bound the queue.
func newTurns() *slots {
	s := newSlots(4 * runtime.GOMAXPROCS(0))
	s.queueSize = math.MaxInt
	return s
}

// setApps says how many apps share the slots. Beside others one gets three quarters: streams that nobody reads can hold
// slots for ever, and would leave none.
func (s *slots) setApps(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.perApp = s.size
	if n > 1 {
		s.perApp = max(1, s.size*3/4)
	}
	s.next()
}

var personSeed = maphash.MakeSeed()

func personOf(app string, token relay.Token) person {
	return person{app, maphash.String(personSeed, token.Reveal())}
}

func (s *slots) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queued
}

// acquire waits for a slot. CodeOverloaded: the queue is full.
func (s *slots) acquire(ctx context.Context, p person) error {
	ready, refusal := s.enter(p)
	if refusal != nil {
		return refusal
	}
	return s.wait(ctx, p, ready)
}

// enter takes a slot, or a place in the queue: then there is a channel to wait for. It does not block.
func (s *slots) enter(p person) (ready chan error, refusal *relay.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken < s.size && s.fits(p) {
		s.start(p)
		return nil, nil
	}
	if s.queued >= s.queueSize && !s.displace(p) {
		return nil, s.overloaded()
	}
	ready = make(chan error, 1)
	s.enqueue(p, ready)
	return ready, nil
}

// wait waits for the slot of whoever has entered.
func (s *slots) wait(ctx context.Context, p person, ready chan error) error {
	if ready == nil {
		return nil
	}
	select {
	case err := <-ready:
		return err
	case <-ctx.Done():
		s.withdraw(p, ready)
		return context.Cause(ctx)
	}
}

// release gives the slot to whoever is next.
func (s *slots) release(p person) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop(p)
	s.next()
}

func (s *slots) start(p person) {
	s.taken++
	s.running[p]++
	s.ofApp[p.app]++
}

// fits reports whether the person and the app may have one more slot.
func (s *slots) fits(p person) bool {
	return s.running[p] < s.perPerson && s.ofApp[p.app] < s.perApp
}

func (s *slots) stop(p person) {
	s.taken--
	if s.running[p]--; s.running[p] == 0 {
		delete(s.running, p)
	}
	if s.ofApp[p.app]--; s.ofApp[p.app] == 0 {
		delete(s.ofApp, p.app)
	}
}

// next starts waiters while there are slots; the caller holds mu.
func (s *slots) next() {
	for s.taken < s.size {
		app, p := s.eligible()
		if p == nil {
			return
		}
		ready := p.waiters[0]
		s.remove(app, p, 0)
		s.start(p.person)
		ready <- nil
		// Who has just been served goes to the end of the line.
		app.persons = moveToEnd(app.persons, p)
		s.apps = moveToEnd(s.apps, app)
	}
}

// eligible is the next in line who is under the limits for one person and one app.
func (s *slots) eligible() (*appQueue, *personQueue) {
	for _, a := range s.apps {
		for _, p := range a.persons {
			if s.fits(p.person) {
				return a, p
			}
		}
	}
	return nil, nil
}

func moveToEnd[T comparable](list []T, v T) []T {
	i := slices.Index(list, v)
	if i < 0 {
		return list
	}
	return append(slices.Delete(list, i, i+1), v)
}

func (s *slots) enqueue(p person, ready chan error) {
	i := slices.IndexFunc(s.apps, func(a *appQueue) bool { return a.app == p.app })
	if i < 0 {
		s.apps = append(s.apps, &appQueue{app: p.app})
		i = len(s.apps) - 1
	}
	a := s.apps[i]
	j := slices.IndexFunc(a.persons, func(q *personQueue) bool { return q.person == p })
	if j < 0 {
		a.persons = append(a.persons, &personQueue{person: p})
		j = len(a.persons) - 1
	}
	a.persons[j].waiters = append(a.persons[j].waiters, ready)
	s.queued++
}

// remove takes out one waiter, and queues that are empty.
func (s *slots) remove(a *appQueue, p *personQueue, i int) {
	p.waiters = slices.Delete(p.waiters, i, i+1)
	s.queued--
	if len(p.waiters) == 0 {
		a.persons = slices.DeleteFunc(a.persons, func(q *personQueue) bool { return q == p })
	}
	if len(a.persons) == 0 {
		s.apps = slices.DeleteFunc(s.apps, func(b *appQueue) bool { return b == a })
	}
}

// displace makes room by refusing the newest request of whoever waits with most: of another app, if that waits with more
// than p's does, else of another person of the same app. It reports whether there is room now.
func (s *slots) displace(p person) bool {
	var own, most *appQueue
	for _, a := range s.apps {
		if a.app == p.app {
			own = a
		}
		if most == nil || a.waiting() > most.waiting() {
			most = a
		}
	}
	if most == nil || most.waiting() <= own.waiting()+1 {
		most = own
	}
	if most == nil {
		return false
	}
	mine := 0
	var heaviest *personQueue
	for _, q := range most.persons {
		if q.person == p {
			mine = len(q.waiters)
		}
		if heaviest == nil || len(q.waiters) > len(heaviest.waiters) {
			heaviest = q
		}
	}
	if most == own && len(heaviest.waiters) <= mine+1 {
		return false
	}
	last := len(heaviest.waiters) - 1
	heaviest.waiters[last] <- s.overloaded()
	s.remove(most, heaviest, last)
	return true
}

// waiting is how many requests of the app wait; of nil, none.
func (a *appQueue) waiting() (n int) {
	if a == nil {
		return 0
	}
	for _, q := range a.persons {
		n += len(q.waiters)
	}
	return n
}

// withdraw takes back a waiter whose caller has left. If it was given a slot at that very moment, that is released.
func (s *slots) withdraw(p person, ready chan error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.apps {
		for _, q := range a.persons {
			if i := slices.Index(q.waiters, ready); i >= 0 {
				s.remove(a, q, i)
				return
			}
		}
	}
	if err := <-ready; err == nil {
		s.stop(p)
		s.next()
	}
}

func (s *slots) overloaded() *relay.Error {
	return &relay.Error{Code: relay.CodeOverloaded, Detail: fmt.Sprintf("%d requests are being served and as many wait, the limit", s.size), After: time.Second}
}
