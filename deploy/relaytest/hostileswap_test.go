package relaytest_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/hostile"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

// splitRequest parts a request's payload into the grant, with its length, and the frame.
func splitRequest(m *nats.Msg) (grant, frame []byte) {
	end := 2 + int(m.Data[0])<<8 + int(m.Data[1])
	return m.Data[:end:end], m.Data[end:]
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
	}{{"one grant", 1, 1, 1}, {"two publishers", 1, 2, 1}, {"two people", 2, 1, 1}, {"two people at two publishers", 2, 2, 1}, {"two workers", 1, 2, 2}} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t)
			var workers []end
			var captured []*nats.Msg
			client := s.publisher(nil)
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
				if i < c.people {
					r.Header.Set("X-Forwarded-Access-Token", relaytest.Token(fmt.Sprint("person ", i), tomorrow()))
				} else {
					r.Header.Set("X-Forwarded-Access-Token", relaytest.Token("person 0", tomorrow()))
				}
				captured = append(captured, s.capture(client, r).Msg)
			}
			a, b := captured[0], captured[1]
			if same := a.Subject == b.Subject; same != (c.at == 1) {
				t.Fatalf("%s and %s", a.Subject, b.Subject)
			}
			ga, _ := splitRequest(a)
			gb, _ := splitRequest(b)
			if sameGrant := string(ga) == string(gb); sameGrant != (c.people == 1 && c.publishers == 1) {
				t.Fatalf("one grant: %v", sameGrant)
			}
			var mixed []*nats.Msg
			for mask := range 1 << 5 {
				var from [5]*nats.Msg
				for i := range from {
					from[i] = captured[mask>>i&1]
				}
				m := parts(from)
				if fmt.Sprint(m.Subject, m.Reply, m.Header, m.Data) != fmt.Sprint(a.Subject, a.Reply, a.Header, a.Data) &&
					fmt.Sprint(m.Subject, m.Reply, m.Header, m.Data) != fmt.Sprint(b.Subject, b.Reply, b.Header, b.Data) {
					mixed = append(mixed, m)
				}
			}
			if len(mixed) < 5 { // one grant and one subject leave three parts, each from either: 8 less the two originals
				t.Fatalf("%d mixtures only", len(mixed))
			}
			for _, m := range mixed {
				s.refused(1, func() { s.deliver(m, workers...) }, workers...)
			}
			if n := s.ran.all(); n != 0 {
				t.Fatalf("%d mixtures were executed", n)
			}
			s.refused(2, func() {
				for range 2 {
					for _, m := range captured {
						s.deliver(m, workers...)
					}
				}
			}, workers...)
			s.log.WaitTimes(t, 2, "msg=request ")
			if s.ran.of("/0") != 1 || s.ran.of("/1") != 1 {
				t.Error("the originals were not executed once each")
			}
		})
	}
}
