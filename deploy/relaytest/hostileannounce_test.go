package relaytest_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/hostile"
	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
)

const announceSubject = "obo.v1.announce." + relaytest.Service

// requestsSeen are the requests that the publishers have sent.
func (s *stage) requestsSeen() (out []*hostile.Message) {
	for _, m := range s.app.Passed(hostile.Up) {
		if ofRequests(m) {
			out = append(out, m)
		}
	}
	return out
}

// readyOnes are a worker's announcements in which it is ready, oldest first.
func (s *stage) readyOnes(w end) (out []*hostile.Message) {
	for _, m := range w.door.Passed(hostile.Up) {
		if !ofAnnouncements(m) {
			continue
		}
		said, err := s.Trust.VerifyAnnouncement(relaytest.Service, m.Data, time.Now())
		if err == nil && said.State == relay.Ready {
			out = append(out, m)
		}
	}
	return out
}

// A worker has stopped, and the broker plays its announcements again. A publisher that has heard its last word sends it
// nothing more. A publisher that was restarted meanwhile believes an announcement for as long as it is valid, seals to a key
// that exists no longer, and says that the outcome is unknown; after that it does not believe it either.
func TestOldAnnouncements(t *testing.T) {
	s := newStage(t)
	first := s.worker(http.HandlerFunc(namesItself), nil)
	client := s.publisher(nil)
	send(t, client, "POST", "/first").want(t, 200, "answer to /first")
	old := s.readyOnes(first)
	first.stop()
	s.app.Wait("the last word, at the publisher", 1, func(m *hostile.Message) bool {
		said, err := s.Trust.VerifyAnnouncement(relaytest.Service, m.Data, time.Now())
		return m.Way == hostile.Down && ofAnnouncements(m) && err == nil && said.State == relay.Gone
	})
	sent := len(s.requestsSeen())
	play := func() {
		for _, m := range old {
			s.app.Send(down(announceSubject, m.Data))
		}
	}
	play()
	s.log.WaitTimes(t, len(old), "an announcement was dropped", "repeated or out of order")
	send(t, client, "POST", "/second").wantCode(t, relay.CodeNoWorker)
	if n := len(s.requestsSeen()); n != sent {
		t.Errorf("%d messages went to a worker that had said that it leaves", n-sent)
	}

	// Restarted, within the announcement's life. The stale request is then played to the worker's successor.
	restarted := s.door()
	fresh := s.Publisher(func(c *publisher.Config) { c.NATS.URL = restarted.URL })
	send(t, fresh, "POST", "/third").wantCode(t, relay.CodeNoWorker)
	restarted.Send(down(announceSubject, old[len(old)-1].Data))
	got := background(t, fresh, "POST", "/fourth")
	stale := restarted.Wait("the request", 1, ofFirst)
	restarted.Script(hostile.When(ofAnnouncements, hostile.Drop)) // nor does it hear of the successor
	successor := s.worker(http.HandlerFunc(namesItself), nil)
	s.RawApp().Worker(successor.Instance())
	moved := stale.Altered(func(m *hostile.Message) {
		m.Subject = strings.Replace(m.Subject, first.Instance(), successor.Instance(), 1)
	})
	s.refused(2, func() { s.deliver(moved.Msg, successor); s.deliver(moved.Msg, successor) }, successor)
	relaytest.Recv(t, got, "the reply").wantUnknown(t)

	// Restarted, after it.
	late := s.door()
	late.Script(hostile.When(ofAnnouncements, hostile.Drop))
	later := s.Publisher(func(c *publisher.Config) {
		c.NATS.URL = late.URL
		c.Now = func() time.Time { return time.Now().Add(relay.AnnouncementLife + relay.Leeway + 10*time.Second) }
		c.DiscoverWait = 100 * time.Millisecond
	})
	send(t, later, "POST", "/fifth").wantCode(t, relay.CodeNoWorker)
	late.Send(down(announceSubject, old[len(old)-1].Data))
	s.log.Wait(t, "an announcement was not believed", "clock_skew")
	send(t, later, "POST", "/sixth").wantCode(t, relay.CodeClockSkew, "or the broker delivers old messages")
	for _, m := range late.Passed(hostile.Up) {
		if ofRequests(m) {
			t.Errorf("a request on %s", m.Subject)
		}
	}
	if n := s.ran.all(); n != 1 {
		t.Errorf("executed %d requests, want the first alone", n)
	}
}

// Announcements are believed only from the key that the trust file binds to the service for which they are delivered, and
// the request is sealed to the key that they name. The broker has an attacker's key, the app's, and the key of another
// service that is trusted as well; and it delivers what is genuine elsewhere.
func TestForgedAnnouncementsWinNothing(t *testing.T) {
	t.Parallel()
	log, billing := new(relaytest.Log), relay.NewIdentity()
	n := relaytest.NewWith(t, log, relaytest.Options{Conf: func(c *natsconf.Config) {
		c.Apps[0].Calls = append(c.Apps[0].Calls, "billing")
		c.Services = append(c.Services, natsconf.Service{Name: "billing", NKeys: []string{relaytest.NewUser(t).Public}, Apps: []string{relaytest.App}})
	}})
	trust, err := relay.TrustFile{
		Type: relay.TrustTypeName,
		Apps: map[string]relay.JWKS{relaytest.App: {Keys: []relay.JWK{n.AppID.Public()}}},
		Services: map[string]relay.JWKS{
			relaytest.Service: {Keys: []relay.JWK{n.ServiceID.Public()}}, "billing": {Keys: []relay.JWK{billing.Public()}},
		},
	}.Trust()
	relaytest.Must(t, err)
	n.Trust = trust
	s := stageOn(t, n, log)
	client := s.publisher(func(c *publisher.Config) { c.DiscoverWait = 200 * time.Millisecond })
	send(t, client, "POST", "/none").wantCode(t, relay.CodeNoWorker) // it listens
	attacker := relay.NewIdentity()
	key, err := relay.NewInstanceKey(time.Now().Add(time.Hour))
	relaytest.Must(t, err)
	announcement := func(by relay.Identity, service string, change func(*relay.Announcement), at time.Time) []byte {
		a := relay.Announcement{Service: service, Instance: relay.NewInstance(), Seq: 1, State: relay.Ready, Capacity: 1, Version: "1", Server: "N"}
		if change != nil {
			change(&a)
		}
		jws, err := a.Sign(by, key, at)
		relaytest.Must(t, err)
		return []byte(jws)
	}
	now := time.Now()
	genuine := announcement(n.ServiceID, relaytest.Service, nil, now)
	altered := append([]byte(nil), genuine...)
	altered[len(altered)-20] ^= 1
	s.app.Script(hostile.When(ofAnnouncements, hostile.Drop))
	for name, data := range map[string][]byte{
		"an attacker's key":                    announcement(attacker, relaytest.Service, nil, now),
		"the app's key":                        announcement(n.AppID, relaytest.Service, nil, now),
		"another service's key":                announcement(billing, relaytest.Service, nil, now),
		"another service's announcement":       announcement(billing, "billing", nil, now),
		"for another service, by the own key":  announcement(n.ServiceID, "billing", nil, now),
		"made long ago":                        announcement(n.ServiceID, relaytest.Service, nil, now.Add(-time.Minute)),
		"made in the future":                   announcement(n.ServiceID, relaytest.Service, nil, now.Add(time.Minute)),
		"without seq":                          announcement(n.ServiceID, relaytest.Service, func(a *relay.Announcement) { a.Seq = 0 }, now),
		"altered":                              altered,
		"longer":                               append(append([]byte(nil), genuine...), '\n'),
		"a grant's worth of bytes, and no end": []byte(strings.Repeat("a.b.", 5000)),
	} {
		s.app.Send(down(announceSubject, data))
		got := send(t, client, "POST", "/forged")
		if !errors.Is(got.err, relay.CodeNoWorker) && !errors.Is(got.err, relay.CodeWorkerUntrusted) && !errors.Is(got.err, relay.CodeClockSkew) {
			t.Errorf("%s: %s", name, got)
		}
		if n := len(s.requestsSeen()); n != 0 {
			t.Fatalf("%s: %d messages were sealed to it", name, n)
		}
	}
	// The control: the genuine one is believed, and so the forgeries were read.
	s.app.Send(down(announceSubject, genuine))
	got := background(t, client, "POST", "/genuine")
	s.app.Wait("the request", 1, ofFirst)
	relaytest.Recv(t, got, "the reply").wantUnknown(t) // nobody is there
}

// A worker's announcement is no proof that its key is alive: the grant is sealed to the key that the publisher has verified,
// and the worker takes no other.
func TestAnnouncedKeyIsReplaced(t *testing.T) {
	s := newStage(t)
	w := s.worker(http.HandlerFunc(namesItself), nil)
	client := s.publisher(nil)
	send(t, client, "POST", "/first").want(t, 200, "answer to /first")
	// The trusted service's own key signs an announcement of this instance with a key that only the attacker holds: that is
	// what a broken-into worker of the service could do. The genuine worker does not open what is sealed to it.
	key, err := relay.NewInstanceKey(time.Now().Add(time.Hour))
	relaytest.Must(t, err)
	a := relay.Announcement{Service: relaytest.Service, Instance: w.Instance(), Seq: 1 << 40, State: relay.Ready, Capacity: 1, Version: "1", Server: "N"}
	jws, err := a.Sign(s.ServiceID, key, time.Now())
	relaytest.Must(t, err)
	s.app.Script(hostile.When(ofAnnouncements, hostile.Drop))
	s.app.Send(down(announceSubject, []byte(jws)), down(announceSubject, []byte("garbage")))
	s.log.Wait(t, "an announcement was dropped") // the garbage, so the one before it has been taken in
	s.refused(1, func() { send(t, client, "POST", "/second").wantCode(t, relay.CodeRefusedUnverified) }, w)
	if n := s.ran.of("/second"); n != 0 {
		t.Errorf("executed %d times", n)
	}
}

// The server itself lies about what it can carry, while a request is on its way: the reply is whole or broken off, and
// nobody crashes over it.
func TestServerLies(t *testing.T) {
	for _, most := range []string{"-1", "10000", "16385", "9223372036854775807"} {
		t.Run(most, func(t *testing.T) {
			s := newStage(t)
			body := strings.Repeat("x", 200_000)
			w := s.worker(says(body), nil)
			client := s.publisher(nil)
			s.app.Script(hostile.When(ofFirst, func(m *hostile.Message) []*hostile.Message {
				w.door.Say(`INFO {"server_id":"N","headers":true,"max_payload":` + most + `}`)
				return []*hostile.Message{m}
			}))
			r := send(t, client, "POST", "/once")
			if r.err == nil && r.body != body {
				t.Errorf("%d bytes", len(r.body))
			}
			if strings.Contains(s.log.String(), "the handler panicked") {
				t.Error("the worker panicked")
			}
		})
	}
}

// An error that nats.go does not know has it give its connection up for good. Whoever runs the broker can deny service while it
// runs, not beyond: both ends come back by themselves.
func TestErrorThatEndsAConnection(t *testing.T) {
	s := newStage(t)
	w := s.worker(http.HandlerFunc(namesItself), nil)
	client := s.publisher(func(c *publisher.Config) { c.ConnectWait, c.DiscoverWait = relaytest.Patience, relaytest.Patience })
	send(t, client, "POST", "/before").want(t, 200, "answer to /before")
	w.door.Say("-ERR 'Maximum Payload Violation'")
	s.app.Say("-ERR 'Maximum Payload Violation'")
	s.log.WaitTimes(t, 2, "the NATS server ended the connection")
	s.log.WaitTimes(t, 4, "connected to NATS")
	send(t, client, "POST", "/after").want(t, 200, "answer to /after")
}
