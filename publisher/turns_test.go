package publisher

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// Where many requests of one person wait to be sealed, those of others are next, in turn.
func TestTurnsGoFromPersonToPerson(t *testing.T) {
	turns := newTurns()
	free := turns.free
	flood, alice, bob := tag{1}, tag{2}, tag{3}
	for range free {
		if turns.enter(flood) != nil {
			t.Fatal("a turn that was free was not given")
		}
	}
	line := []tag{flood, flood, flood, flood, alice, alice, bob}
	ready := make([]chan struct{}, len(line))
	for i, whose := range line {
		ready[i] = turns.enter(whose)
	}
	var served []tag
	for range line {
		turns.pass()
		for i, c := range ready {
			select {
			case <-c:
				served = append(served, line[i])
				ready[i] = nil
			default:
			}
		}
	}
	if want := []tag{flood, alice, bob, flood, alice, flood, flood}; !slices.Equal(served, want) {
		t.Errorf("served %v, want %v", served, want)
	}
	for range free {
		turns.pass()
	}
	if turns.free != free || len(turns.waiting)+len(turns.next) != 0 {
		t.Errorf("afterwards %d of %d turns are free, %d people wait", turns.free, free, len(turns.waiting))
	}
}

// Nothing is sealed out of turn, and a request that fails passes its turn on.
func TestRequestsAreSealedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		id := relay.NewIdentity()
		transport, err := New(Config{
			App: "ui", Identity: relay.NewIdentity(), Trust: trustOf(t, map[string]relay.Identity{"middleware": id}),
			NATS: relay.ConnectConfig{URL: "nats://127.0.0.1:4222"},
		})
		if err != nil {
			t.Fatal(err)
		}
		transport.nc, transport.closing = new(nats.Conn), true // so that it is refused when it is to be sent
		now := time.Now()
		said, err := transport.directory.trust.VerifyAnnouncement("middleware", newTestWorker(t, id, time.Hour, now).announces(now), now)
		if err != nil {
			t.Fatal(err)
		}
		free := transport.turns.free
		for range free {
			transport.turns.take(tag{1})
		}
		c := &call{
			ctx: t.Context(), service: "middleware", whole: true, token: testToken(t, testJWT("alice", now.Add(time.Hour))), tag: tag{2},
			head: relay.RequestHead{Method: "POST", Path: "/", TimeoutMS: 1000},
		}
		done := make(chan *relay.Error)
		go func() {
			_, err := transport.start(c, candidate{instance: &instance{id: said.Instance}, said: said}, func() {})
			done <- err
		}()
		synctest.Wait()
		if n := transport.grants.sealed.Load(); n != 0 {
			t.Errorf("%d grants were sealed while all turns were taken", n)
		}
		transport.turns.pass()
		if err := <-done; err == nil || err.Code != relay.CodePublisherDraining {
			t.Error(err)
		}
		if n := transport.grants.sealed.Load(); n != 1 {
			t.Errorf("%d grants were sealed", n)
		}
		if n := transport.turns.free; n != 1 {
			t.Errorf("%d turns are free, want the one that was passed on", n)
		}
	})
}
