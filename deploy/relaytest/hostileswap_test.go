package relaytest_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/hostile"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
)

// splitRequest parts a request's payload into the grant, or the reference to it, and the frame.
func splitRequest(m *nats.Msg) (grant, frame []byte) {
	_, _, frame, _ = relay.SplitRequest(m.Data) // captured, so well formed
	end := len(m.Data) - len(frame)
	return m.Data[:end:end], frame
}

// parts are what a request's message consists of, each taken from one of two messages.
func parts(from [5]*nats.Msg) *nats.Msg {
	grant, _ := splitRequest(from[3])
	_, frame := splitRequest(from[4])
	return &nats.Msg{Subject: from[0].Subject, Reply: from[1].Reply, Header: from[2].Header, Data: append(grant, frame...)}
}

// The broker captures two requests before they are delivered and puts them together from each other's parts, in every way:
// subject, reply subject, hints, grant, frame. Nothing but the two originals is executed, each once. The requests are of one
// person under one grant, of one person at two publishers, of two people, and to two workers.
func TestSwappedParts(t *testing.T) {
	for _, c := range []struct {
		name                   string
		people, publishers, at int
		reference              bool // the second request refers to a grant that the worker keeps
	}{
		{"one grant", 1, 1, 1, false}, {"one grant, by reference", 1, 1, 1, true}, {"two publishers", 1, 2, 1, false}, {"two people", 2, 1, 1, false},
		{"two people, by reference", 2, 1, 1, true}, {"two people at two publishers", 2, 2, 1, true}, {"two workers", 1, 2, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			var workers []end
			var captured []*nats.Msg
			client := s.publisher(nil)
			tokens := []string{relaytest.Token("person 0", tomorrow()), relaytest.Token("person 1", tomorrow())}
			for i := range 2 {
				if i < c.at {
					workers = append(workers, s.worker(http.HandlerFunc(namesItself), nil))
				}
				if i == 1 && c.publishers == 2 {
					client = s.publisher(nil)
				}
				if i == 1 && c.at == 2 {
					// This publisher shall hear of the second worker alone.
					workers[0].door.Script(hostile.When(ofAnnouncements, hostile.Drop))
					defer workers[0].door.Script(hostile.Pass)
				}
				r := newRequest(t, "POST", fmt.Sprint("/", i), nil)
				r.Header.Set("X-Forwarded-Access-Token", tokens[min(i, c.people-1)])
				if i == 1 && c.reference {
					warm := newRequest(t, "GET", "/warm", nil)
					warm.Header = r.Header
					do(client, warm).want(t, 200, "answer to /warm")
				}
				captured = append(captured, s.capture(client, r).Msg)
			}
			warm := s.ran.all()
			if sealed, _, _, err := relay.SplitRequest(captured[1].Data); err != nil || (sealed == nil) != c.reference {
				t.Fatalf("by reference: %v %v", sealed == nil, err)
			}
			a, b := captured[0], captured[1]
			if (a.Subject == b.Subject) != (c.at == 1) {
				t.Fatalf("%s and %s", a.Subject, b.Subject)
			}
			ga, _ := splitRequest(a)
			gb, _ := splitRequest(b)
			if sameGrant := string(ga) == string(gb); sameGrant != (c.people == 1 && c.publishers == 1 && !c.reference) {
				t.Fatalf("one grant: %v", sameGrant)
			}
			same := func(m *nats.Msg) bool { // as one of the originals, but for how it names their one grant
				_, frame := splitRequest(m)
				for i, o := range captured {
					_, own := splitRequest(o)
					_, other := splitRequest(captured[1-i])
					if m.Subject == o.Subject && m.Reply == o.Reply && string(frame) == string(own) && string(own) != string(other) &&
						fmt.Sprint(m.Header) == fmt.Sprint(o.Header) && (c.people == 1 && c.publishers == 1 || string(m.Data) == string(o.Data)) {
						return true
					}
				}
				return false
			}
			var mixed []*nats.Msg
			for mask := range 1 << 5 {
				var from [5]*nats.Msg
				for i := range from {
					from[i] = captured[mask>>i&1]
				}
				m := parts(from)
				if !same(m) {
					mixed = append(mixed, m)
				}
			}
			if len(mixed) < 5 { // one grant and one subject leave three parts, each from either: 8 less the two originals
				t.Fatalf("%d mixtures only", len(mixed))
			}
			for _, m := range mixed {
				s.refused(1, func() { s.deliver(m, workers...) }, workers...)
			}
			if n := s.ran.all() - warm; n != 0 {
				t.Fatalf("%d mixtures were executed", n)
			}
			s.refused(2, func() {
				for range 2 {
					for _, m := range captured {
						s.deliver(m, workers...)
					}
				}
			}, workers...)
			s.log.WaitTimes(t, 2+warm, "msg=request ")
			if s.ran.of("/0") != 1 || s.ran.of("/1") != 1 {
				t.Error("the originals were not executed once each")
			}
		})
	}
}
