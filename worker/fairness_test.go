package worker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/obo-relay/obo-relay/relay"
)

// waiter starts a request that waits for a slot and notes when it is served.
func waiter(ctx context.Context, s *slots, p person, name string, served *[]string, errs chan<- error) {
	go func() {
		err := s.acquire(ctx, p)
		if err == nil {
			*served = append(*served, name)
		}
		errs <- err
	}()
	synctest.Wait()
}

func TestSlotsAreSharedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(2)
		s.queueSize = 100
		alice, bob, carol := person{"ui", 1}, person{"ui", 2}, person{"batch", 3}
		other := person{"other", 9}
		for range 2 {
			s.running[other] = 0 // both slots are taken by somebody else
			s.start(other)
		}
		var served []string
		errs := make(chan error, 100)
		for range 4 {
			waiter(t.Context(), s, alice, "alice", &served, errs)
		}
		waiter(t.Context(), s, bob, "bob", &served, errs)
		waiter(t.Context(), s, carol, "carol", &served, errs)
		s.release(other)
		for range 5 {
			synctest.Wait()
			switch served[len(served)-1] {
			case "alice":
				s.release(alice)
			case "bob":
				s.release(bob)
			case "carol":
				s.release(carol)
			}
		}
		synctest.Wait()
		want := []string{"alice", "carol", "bob", "alice", "alice", "alice"}
		if len(served) != len(want) {
			t.Fatalf("served %v", served)
		}
		for i := range want {
			if served[i] != want[i] {
				t.Fatalf("served in the order %v, want %v", served, want)
			}
		}
	})
}

func TestOnePersonHoldsHalfOfTheSlotsAtMost(t *testing.T) {
	s := newSlots(4)
	flood, other := person{"ui", 1}, person{"ui", 2}
	for range 2 {
		if err := s.acquire(t.Context(), flood); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.acquire(ctx, flood); !errors.Is(err, context.Canceled) {
		t.Errorf("the third of one person: %v, want it to wait", err)
	}
	if err := s.acquire(t.Context(), other); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	if s.queued != 0 || s.taken != 3 {
		t.Errorf("%d queued and %d taken after the caller left", s.queued, s.taken)
	}
}

func TestFullQueueGivesWayToWhoHasFewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(1)
		s.queueSize = 3
		flood, other := person{"ui", 1}, person{"ui", 2}
		if err := s.acquire(t.Context(), flood); err != nil {
			t.Fatal(err)
		}
		var served []string
		errs, otherErrs := make(chan error, 10), make(chan error, 10)
		for range 3 {
			waiter(t.Context(), s, flood, "flood", &served, errs)
		}
		if err := s.acquire(t.Context(), flood); !errors.Is(err, relay.CodeOverloaded) {
			t.Errorf("flood over the full queue: %v", err)
		}
		waiter(t.Context(), s, other, "other", &served, otherErrs)
		if err := <-errs; !errors.Is(err, relay.CodeOverloaded) {
			t.Errorf("the flood's newest: %v, want it to give way", err)
		}
		s.release(flood)
		synctest.Wait()
		if len(served) != 1 || served[0] != "flood" {
			t.Fatalf("served %v, want the oldest", served)
		}
		s.release(flood)
		synctest.Wait()
		if len(served) != 2 || served[1] != "other" {
			t.Fatalf("served %v, want the other person in turn", served)
		}
		s.release(other)
		synctest.Wait()
		s.release(flood)
		if s.taken != 0 || s.queued != 0 || len(s.running) != 0 || len(s.apps) != 0 {
			t.Errorf("not empty at the end: %+v", s)
		}
	})
}

// Beside others one app gets three quarters of the slots, however many people it has; alone it gets all.
func TestOneAppLeavesSlotsForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(8)
		s.setApps(2)
		var served []string
		errs := make(chan error, 100)
		for i := range 10 {
			waiter(t.Context(), s, person{"flood", uint64(i)}, "flood", &served, errs)
		}
		waiter(t.Context(), s, person{"ui", 1}, "ui", &served, errs)
		if len(served) != 7 || served[6] != "ui" {
			t.Errorf("served %v, want six of the flood and one of the other app", served)
		}
		s.setApps(1)
		synctest.Wait()
		if len(served) != 8 || s.taken != 8 {
			t.Errorf("served %v once there is no other app", served)
		}
		for range 3 {
			s.release(person{"flood", 0})
			synctest.Wait()
		}
	})
}

// In a full queue the app with more in it gives way, also where each of its people has one request only.
func TestFullQueueGivesWayToTheAppWithFewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlots(4)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var served []string
		errs := make(chan error, 100)
		for i := range 8 { // four are served, four wait
			waiter(ctx, s, person{"flood", uint64(i)}, "flood", &served, errs)
		}
		for i := range 2 {
			waiter(ctx, s, person{"ui", uint64(100 + i)}, "ui", &served, errs)
		}
		if s.queued != 4 || len(s.apps) != 2 || s.apps[0].waiting() != 2 || s.apps[1].waiting() != 2 {
			t.Errorf("%d wait, of %d apps", s.queued, len(s.apps))
		}
		if err := s.acquire(ctx, person{"ui", 102}); !errors.Is(err, relay.CodeOverloaded) {
			t.Errorf("with as many as the other app: %v", err)
		}
		if err := s.acquire(ctx, person{"flood", 9}); !errors.Is(err, relay.CodeOverloaded) {
			t.Errorf("the flood's next: %v", err)
		}
		cancel()
		synctest.Wait()
	})
}
