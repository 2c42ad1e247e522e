package relaytest_test

import (
	"crypto/rand"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
)

// noResponders is what a NATS server answers for a request that nobody received.
func noResponders(subject string) *nats.Msg {
	return &nats.Msg{Subject: subject, Header: nats.Header{"Status": {"503"}}}
}

// Whoever runs the broker answers first, a thousand times: the genuine reply is what the caller gets.
func TestForgedAnswers(t *testing.T) {
	random := make([]byte, 200)
	_, _ = rand.Read(random)
	frame := append([]byte{relay.Version, byte(relay.FrameWhole), 0, 0, 0, 0, 0, 0, 0, 0}, random...)
	salted := append([]byte{2}, frame...)
	for _, c := range []struct {
		name string
		msgs func(reply string) []*nats.Msg
	}{
		{"unsealed refusals", func(reply string) []*nats.Msg {
			return []*nats.Msg{natsMsg(reply, relay.UnsealedRefusal(relay.CodeRefused))}
		}},
		{"503", func(reply string) []*nats.Msg { return []*nats.Msg{noResponders(reply)} }},
		{"garbage", func(reply string) []*nats.Msg {
			return []*nats.Msg{natsMsg(reply, nil), natsMsg(reply, []byte{1}), natsMsg(reply, random), natsMsg(reply, frame), natsMsg(reply, salted), natsMsg(reply, salted[:20]), natsMsg(reply, frame[:10])}
		}},
		{"all kinds", func(reply string) []*nats.Msg {
			return []*nats.Msg{natsMsg(reply, salted), natsMsg(reply, []byte("\x00clock_skew")), noResponders(reply), natsMsg(reply, []byte("\x00")), natsMsg(reply, []byte("\x00CANARY"))}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, _ := start(t)
			b := newBlocker()
			handler := &counter{handler: b.handler("genuine")}
			n.Worker(handler, nil)
			client := n.Publisher(nil)
			root := n.Tap(n.Root, "obo.v1.req.>")
			got := background(t, client, "POST", "/")
			request := root.Wait(".req.", 1)
			relaytest.Recv(t, b.running, "the handler")
			for range 1000 {
				for _, m := range c.msgs(request.Reply) {
					relaytest.Must(t, root.Conn.PublishMsg(m))
				}
			}
			root.Flush()
			close(b.resume)
			relaytest.Recv(t, got, "the reply").want(t, 200, "genuine")
			handler.want(t, 1)
		})
	}
}

// A 503 forged for a POST that runs for long: it is neither tried again nor given up, since its worker is heard.
func TestForged503ForALongPOST(t *testing.T) {
	for _, forged := range []string{"503", "refusal"} {
		t.Run(forged, func(t *testing.T) {
			n, _ := start(t)
			b, _, client := two(t, n, nil)
			root := n.Tap(n.Root, "obo.v1.>")
			got := background(t, client, "POST", "/")
			request := root.Wait(".req.", 1)
			name := relaytest.Recv(t, b.running, "the handler")
			if forged == "503" {
				root.Send(noResponders(request.Reply))
			} else {
				root.Send(natsMsg(request.Reply, relay.UnsealedRefusal(relay.CodeRefused)))
			}
			// Long enough for the hint to have been believed: the third keep-alive of the worker.
			root.Wait(".rep.", 4)
			select {
			case r := <-got:
				t.Fatalf("ended: %s", r)
			default:
			}
			b.resume <- struct{}{}
			relaytest.Recv(t, got, "the reply").want(t, 200, name)
			if len(b.running) != 0 {
				t.Error("it was executed again")
			}
		})
	}
}

// With --trust-broker a 503 to the first message counts: the request goes to the other worker, as PROTOCOL.md §10 says;
// that it was delivered all the same is what such trust costs.
func TestForged503WithTrustBroker(t *testing.T) {
	n, _ := start(t)
	b, _, client := two(t, n, func(c *publisher.Config) { c.TrustBroker = true })
	root := n.Tap(n.Root, "obo.v1.req.>")
	got := background(t, client, "POST", "/")
	request := root.Wait(".req.", 1)
	first := relaytest.Recv(t, b.running, "the handler")
	root.Send(noResponders(request.Reply))
	second := relaytest.Recv(t, b.running, "the other handler")
	if first == second {
		t.Error("the same worker got it again")
	}
	close(b.resume)
	relaytest.Recv(t, got, "the reply").want(t, 200, second)
}

// But not one that comes after the worker has been heard, or after a second message: that says that the worker left, not
// that the request never came.
func TestLate503WithTrustBroker(t *testing.T) {
	n, _ := start(t)
	b, kill, client := two(t, n, func(c *publisher.Config) { c.TrustBroker = true })
	tap := n.Tap(n.Root, "obo.v1.rep.>")
	got := background(t, client, "POST", "/")
	victim := relaytest.Recv(t, b.running, "the handler")
	tap.Wait(".rep.", 1) // a keep-alive of the worker
	kill[victim]()
	relaytest.Recv(t, got, "the reply").wantCode(t, relay.CodeOutcomeUnknown)
	if len(b.running) != 0 {
		t.Error("it was executed again")
	}
}

// A reply of one request does not pass for that of another, nor a publisher's own frames for a reply.
func TestSwappedReplies(t *testing.T) {
	n, _ := start(t)
	b := newBlocker()
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" {
			_, _ = io.WriteString(w, "first")
			return
		}
		b.handler("second")(w, r)
	}), nil)
	client := n.Publisher(nil)
	root := n.Tap(n.Root, "obo.v1.>")
	send(t, client, "POST", "/first").want(t, 200, "first")
	first := root.Wait(".rep.", 1)
	got := background(t, client, "POST", "/second")
	relaytest.Recv(t, b.running, "the handler")
	request := root.Wait(".req.", 2)
	for range 100 {
		relaytest.Must(t, root.Conn.PublishMsg(natsMsg(request.Reply, first.Data)))
		relaytest.Must(t, root.Conn.PublishMsg(natsMsg(request.Reply, request.Data)))
	}
	root.Flush()
	close(b.resume)
	relaytest.Recv(t, got, "the reply").want(t, 200, "second")
}

// A forged announcement wins nothing: one of an attacker's key, an old one, one of another service's subject.
func TestForgedAnnouncements(t *testing.T) {
	n, log := start(t)
	handler := &counter{handler: says("hello")}
	w, stop := n.Worker(handler, nil)
	client := n.Publisher(nil)
	send(t, client, "POST", "/").want(t, 200, "hello")
	root := n.Tap(n.Root, "obo.v1.>")
	app := n.RawApp()
	app.Worker(w.Instance())
	genuine := app.Tap.Wait(".announce.", 1)
	attacker := relay.NewIdentity()
	key, err := relay.NewInstanceKey(time.Now().Add(time.Hour))
	relaytest.Must(t, err)
	forge := func(by relay.Identity, change func(*relay.Announcement)) []byte {
		a := relay.Announcement{Service: relaytest.Service, Instance: relay.NewInstance(), Seq: 1, State: relay.Ready, Capacity: 1, Version: "1", Server: "N"}
		if change != nil {
			change(&a)
		}
		jws, err := a.Sign(by, key, time.Now())
		relaytest.Must(t, err)
		return []byte(jws)
	}
	forgeries := [][]byte{
		forge(attacker, nil),
		forge(n.AppID, nil),
		forge(n.ServiceID, func(a *relay.Announcement) { a.Service = "billing" }),
		genuine.Data, // again
		append([]byte(nil), append(genuine.Data, '\n')...),
		[]byte("x"), nil,
	}
	for _, f := range forgeries {
		root.Send(natsMsg("obo.v1.announce.middleware", f))
	}
	log.Wait(t, "an announcement was not believed", attacker.Kid())
	log.Wait(t, "an announcement was dropped", "repeated or out of order")
	for range 10 {
		send(t, client, "POST", "/").want(t, 200, "hello")
	}
	// The worker stops, and its last announcement but one is played: it does not bring the worker back.
	stop()
	for range 10 {
		root.Send(genuine)
	}
	for _, m := range root.On(".req.") {
		if !strings.Contains(m.Subject, w.Instance()) {
			t.Errorf("a request went to %s", m.Subject)
		}
	}
}
