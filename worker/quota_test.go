package worker

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

func newQuota() *quota { return newQuotas(1, 1, trustOfApps("ui")).of("ui") }

func trustOfApps(names ...string) *relay.Trust {
	file := relay.TrustFile{Type: relay.TrustTypeName, Apps: map[string]relay.JWKS{}}
	for _, name := range names {
		file.Apps[name] = relay.JWKS{Keys: []relay.JWK{relay.NewIdentity().Public()}}
	}
	trust, err := file.Trust()
	if err != nil {
		panic(err)
	}
	return trust
}

// One app takes half of the room at most, and whoever comes then finds some, also a third.
func TestAFloodLeavesRoomForOtherApps(t *testing.T) {
	q := newQuotas(64, 1, trustOfApps("flood", "ui", "batch"))
	fill := func(app string) (n int) {
		for {
			if _, ok := q.enter(app); !ok {
				return n
			}
			n++
		}
	}
	flood, ui, batch := fill("flood"), fill("ui"), fill("batch")
	if flood != 32 || ui < 8 || batch < 4 || q.total > 64 {
		t.Errorf("flood %d, then ui %d, then batch %d of 64", flood, ui, batch)
	}
	for range flood {
		q.leave(q.of("flood"))
	}
	if more := fill("batch"); more < 16 {
		t.Errorf("after the flood batch gets only %d more", more)
	}
	// Names that nobody trusts share one room: inventing them gives no more of it.
	q = newQuotas(64, 1, trustOfApps("ui"))
	if a, b := fill("invented"), fill("invented-too"); a != 32 || b != 0 {
		t.Errorf("invented names got %d and %d", a, b)
	}
}

// A new trust file keeps the count of what is under way.
func TestQuotasOutliveATrustFile(t *testing.T) {
	q := newQuotas(4, 1, trustOfApps("ui", "gone"))
	a, _ := q.enter("ui")
	b, _ := q.enter("gone")
	q.setTrust(trustOfApps("ui", "new"))
	if q.of("ui") != a || q.of("new") == a || q.of("gone") != q.strange {
		t.Error("the quotas are not those of the trust file")
	}
	q.leave(a)
	q.leave(b)
	if q.total != 0 || a.inFlight != 0 || b.inFlight != 0 {
		t.Errorf("%d are counted", q.total)
	}
}

// Public-key work is bounded for each app: over the rate a new grant is refused, grants that are open are not, another app
// is not, and time makes good for it.
func TestNewGrantsOfOneAppAreBounded(t *testing.T) {
	s := newSealer(t, func(c *Config) { c.GrantRate = 0.8 }) // four at once
	grant, compact := s.grant()
	if _, err := s.admit(s.message(grant, compact, nil)); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for range 10 { // of garbage: it costs as much as what is right, so it counts as much
		g, c := s.grant()
		m := s.message(g, c, nil)
		m.Data[500] ^= 1
		if _, err := s.admit(m); errors.Is(err, errTooManyGrants) {
			refused++
			if err.Code != relay.CodeRefused {
				t.Error(err)
			}
		}
	}
	if refused != 7 {
		t.Errorf("%d of 10 were refused unseen, want all but the rest of the burst of 4", refused)
	}
	newer, sealed := s.grant()
	late := s.message(newer, sealed, nil)
	if _, err := s.admit(late); !errors.Is(err, errTooManyGrants) {
		t.Errorf("the app's next new grant: %v", err)
	}
	if _, err := s.admit(s.message(grant, compact, nil)); err != nil {
		t.Errorf("a grant that is open: %v", err)
	}
	other := newQuotas(1, 1, trustOfApps("other")).of("other")
	if _, err := s.admission.admit(other, late, s.subjects.Parse(late.Subject), s.subjects.Parse(late.Reply)); err != nil {
		t.Errorf("another app's quota: %v", err)
	}
	newest, sealed := s.grant()
	m := s.message(newest, sealed, nil)
	s.clock.pass(2 * time.Second)
	if _, err := s.admit(m); err != nil {
		t.Errorf("the same bytes two seconds later: %v", err)
	}
}

// Many requests under one new grant count once.
func TestOneGrantCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSealer(t, func(c *Config) { c.GrantRate = 0.2 }) // one at once
		grant, compact := s.grant()
		for range cap(s.quota.dear) {
			s.quota.dear <- struct{}{}
		}
		var wg sync.WaitGroup
		for range 8 {
			m := s.message(grant, compact, nil)
			wg.Go(func() {
				if _, err := s.admit(m); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // none of them can have been opened
		for range cap(s.quota.dear) {
			<-s.quota.dear
		}
		wg.Wait()
	})
}

// Frames that wait for admissions are bounded for an app, and what is admitted or refused waits no more.
func TestFramesThatWaitAreBounded(t *testing.T) {
	s := newSealer(t, nil)
	grant, _ := s.grant()
	e, q := newExchanges(), newQuotas(1, 1, trustOfApps("flood", "ui"))
	large := bytes.Repeat([]byte("x"), 64<<10)
	var all []*exchange
	fill := func(app string) (n int) {
		for range 2 * maxPendingApp / maxPendingBytes {
			x := e.start(exchangeKey{app, relay.NewID()}, q.of(app))
			all = append(all, x)
			for x.deliver(large) == nil {
				n += len(large)
			}
		}
		return n
	}
	if n := fill("flood"); n != maxPendingApp {
		t.Errorf("%d bytes wait", n)
	}
	if n := fill("ui"); n != maxPendingApp {
		t.Errorf("of another app %d bytes wait", n)
	}
	for i, x := range all {
		if i%2 == 0 {
			x.refuse()
			if err := x.deliver(large); !errors.Is(err, errNoSuchRequest) {
				t.Errorf("after the refusal: %v", err)
			}
		} else {
			x.admit(relay.NewStream(t.Context(), relay.StreamConfig{
				Role: relay.RoleService, ID: x.key.id, Grant: grant, Limit: relay.MaxFrame, Budget: relay.NewBudget(1), Now: s.clock.now,
				Publish: func([]byte, relay.FrameType, int) error { return nil },
			}), nil)
		}
	}
	if a, b := q.of("flood").pending.Load(), q.of("ui").pending.Load(); a != 0 || b != 0 {
		t.Errorf("%d and %d bytes are still counted", a, b)
	}
}

// Requests are opened a few at a time, one person's whatever their number, and those of another person and of another app
// meanwhile. What is refused gives its turn back.
func TestRequestsOfOnePersonAreOpenedAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSealer(t, nil)
		turns := s.admission.turns
		turns.setApps(2)
		alice, compact := s.grantOf("alice")
		var whose person
		for range turns.perPerson {
			a, err := s.begin(s.message(alice, compact, nil))
			if err != nil {
				t.Fatal(err)
			}
			whose = a.whose
		}
		waiting := make(chan *relay.Error, 1)
		m := s.message(alice, compact, nil)
		go func() {
			_, err := s.begin(m)
			waiting <- err
		}()
		synctest.Wait() // it stands in line first
		bob, sealed := s.grantOf("bob")
		for range 3 * turns.size {
			m := s.message(bob, sealed, func(h *relay.RequestHead) { h.Subject += "-not" })
			if _, err := s.begin(m); err == nil {
				t.Error("admitted on another subject")
			}
		}
		for range turns.perApp - turns.perPerson {
			if _, err := s.begin(s.message(bob, sealed, nil)); err != nil {
				t.Error(err)
			}
		}
		if ready, err := turns.enter(person{"other", 1}); ready != nil || err != nil {
			t.Errorf("another app has to wait: %v", err)
		}
		synctest.Wait()
		select {
		case err := <-waiting:
			t.Fatalf("one more of the flood was opened: %v", err)
		default:
		}
		turns.release(whose)
		if err := <-waiting; err != nil {
			t.Error(err)
		}
	})
}
