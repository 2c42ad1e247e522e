package relaytest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
)

// spare flips a bit of the grant that lenient decoders ignore.
func spare(data []byte) []byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	out := append([]byte(nil), data...)
	n := int(out[0])<<8 | int(out[1])
	last := 2 + n - 1 // of the tag: 16 bytes are 22 characters, with four spare bits
	out[last] = alphabet[strings.IndexByte(alphabet, out[last])^1]
	return out
}

// lengthened puts bytes behind the grant, and counts them as part of it.
func lengthened(data []byte, more string) []byte {
	n := int(data[0])<<8 | int(data[1])
	out := append([]byte(nil), data[:2+n]...)
	out = append(append(out, more...), data[2+n:]...)
	n += len(more)
	out[0], out[1] = byte(n>>8), byte(n)
	return out
}

// alterations are what whoever runs the broker can do to a message that it has captured.
func alterations(app *relaytest.RawApp, captured *nats.Msg, other *relay.Announcement) map[string]*nats.Msg {
	out := map[string]*nats.Msg{}
	alter := func(name string, f func(*nats.Msg)) {
		m := relaytest.Copy(captured)
		f(m)
		out[name] = m
	}
	subjects := app.Subjects
	alter("without hints", func(m *nats.Msg) { m.Header = nil })
	alter("hint of another method", func(m *nats.Msg) { m.Header.Set("Obo-Method", "DELETE") })
	alter("hint of another path", func(m *nats.Msg) { m.Header.Set("Obo-Path", "/other") })
	alter("hint of another id", func(m *nats.Msg) { m.Header.Set("Obo-Id", relay.NewID().String()) })
	alter("hint in another case", func(m *nats.Msg) { m.Header["OBO-METHOD"] = []string{"DELETE"} })
	alter("hint twice", func(m *nats.Msg) { m.Header.Add("Obo-Method", "POST") })
	alter("hint of a status", func(m *nats.Msg) { m.Header.Set("Obo-Status", "200") })
	alter("trace", func(m *nats.Msg) { m.Header.Set("traceparent", "00-1") })
	alter("spare bit", func(m *nats.Msg) { m.Data = spare(m.Data) })
	alter("line break in the grant", func(m *nats.Msg) { m.Data = lengthened(m.Data, "\n") })
	alter("padding in the grant", func(m *nats.Msg) { m.Data = lengthened(m.Data, "==") })
	alter("dot after the grant", func(m *nats.Msg) { m.Data = lengthened(m.Data, ".") })
	alter("line break at the end", func(m *nats.Msg) { m.Data = append(m.Data, '\n') })
	alter("byte of the frame", func(m *nats.Msg) { m.Data[len(m.Data)-20] ^= 1 })
	alter("type of the frame", func(m *nats.Msg) { n := int(m.Data[0])<<8 | int(m.Data[1]); m.Data[2+n+1] = byte(relay.FrameHead) })
	alter("seq of the frame", func(m *nats.Msg) { n := int(m.Data[0])<<8 | int(m.Data[1]); m.Data[2+n+9] = 1 })
	alter("shorter", func(m *nats.Msg) { m.Data = m.Data[:len(m.Data)-1] })
	alter("empty", func(m *nats.Msg) { m.Data = nil })
	alter("one byte", func(m *nats.Msg) { m.Data = m.Data[:1] })
	alter("no reply", func(m *nats.Msg) { m.Reply = "" })
	alter("reply to another inbox", func(m *nats.Msg) {
		id, _ := relay.ParseID(m.Header.Get("Obo-Id"))
		m.Reply = subjects.Reply(relaytest.App, relay.NewID(), id)
	})
	alter("reply with another id", func(m *nats.Msg) { m.Reply = subjects.Reply(relaytest.App, app.Inbox, relay.NewID()) })
	alter("reply to another app", func(m *nats.Msg) {
		id, _ := relay.ParseID(m.Header.Get("Obo-Id"))
		m.Reply = subjects.Reply("batch", app.Inbox, id)
	})
	for _, reply := range []string{"_INBOX.x", "$JS.API.STREAM.PURGE.S", "obo.v1.announce.middleware", "obo.v1.rep.ui.x"} {
		alter("reply "+reply, func(m *nats.Msg) { m.Reply = reply })
	}
	alter("another app's subject", func(m *nats.Msg) { m.Subject = strings.TrimSuffix(m.Subject, ".ui") + ".batch" })
	alter("another app's subject and reply", func(m *nats.Msg) {
		id, _ := relay.ParseID(m.Header.Get("Obo-Id"))
		m.Subject = strings.TrimSuffix(m.Subject, ".ui") + ".batch"
		m.Reply = subjects.Reply("batch", app.Inbox, id)
	})
	alter("ctl subject", func(m *nats.Msg) {
		id, _ := relay.ParseID(m.Header.Get("Obo-Id"))
		m.Subject = subjects.Control(relaytest.Service, app.Instance(m.Subject), relaytest.App, id)
	})
	for spelling, data := range respelled(captured.Data) {
		alter(spelling, func(m *nats.Msg) { m.Data = data })
	}
	if other != nil {
		alter("another instance", func(m *nats.Msg) { m.Subject = subjects.Request(relaytest.Service, other.Instance, relaytest.App) })
	}
	return out
}

// withBatch is a relay that a second app, batch, may use too.
func withBatch(t *testing.T) (*relaytest.Net, *relaytest.Log) {
	t.Helper()
	t.Parallel()
	log, batch := new(relaytest.Log), relaytest.NewUser(t)
	n := relaytest.NewWith(t, log, relaytest.Options{Conf: func(c *natsconf.Config) {
		c.Apps = append(c.Apps, natsconf.App{Name: "batch", NKeys: []string{batch.Public}, Calls: []string{relaytest.Service}})
		c.Services[0].Apps = append(c.Services[0].Apps, "batch")
	}})
	trust, err := relay.TrustFile{
		Type:     relay.TrustTypeName,
		Apps:     map[string]relay.JWKS{relaytest.App: {Keys: []relay.JWK{n.AppID.Public()}}, "batch": {Keys: []relay.JWK{relay.NewIdentity().Public()}}},
		Services: map[string]relay.JWKS{relaytest.Service: {Keys: []relay.JWK{n.ServiceID.Public()}}},
	}.Trust()
	relaytest.Must(t, err)
	n.Trust = trust
	return n, log
}

// A message that was captured before it was delivered, and altered: no handler runs. The genuine one then runs, once,
// however often it and its alterations are sent.
func TestAlteredRequests(t *testing.T) {
	n, _ := withBatch(t)
	handler := &counter{}
	w, _ := n.Worker(handler, nil)
	elsewhere := &counter{}
	w2, _ := n.Worker(elsewhere, nil)
	app := n.RawApp()
	said, other := app.Worker(w.Instance()), app.Worker(w2.Instance())
	inspect := newInspector(t, n)
	grant, compact := app.Grant(said, alice())
	ran := int64(0)
	for name := range alterations(app, app.Request(said, grant, compact, relay.NewID(), nil), other) {
		genuine := app.Request(said, grant, compact, relay.NewID(), nil)
		before := inspect.stats(w.Instance()).Dropped + inspect.stats(w2.Instance()).Dropped
		altered := alterations(app, genuine, other)[name]
		app.Tap.Send(altered)
		if name != "without hints" { // which says nothing false, and is the request itself
			waitDropped(t, inspect, before+1, w.Instance(), w2.Instance())
		}
		if handler.n.Load() != ran && name != "without hints" {
			t.Errorf("%s: the handler ran", name)
		}
		app.Tap.Send(genuine)
		ran++
		inspect.wait(w.Instance(), "the genuine request has run", func(s stats) bool { return s.requests >= int(ran) })
		handler.want(t, ran)
		app.Tap.Wait(genuine.Reply, 1)
		replies := settled(t, app.Tap, genuine.Reply)
		before = inspect.stats(w.Instance()).Dropped + inspect.stats(w2.Instance()).Dropped
		for range 3 {
			app.Tap.Send(genuine)
		}
		waitDropped(t, inspect, before+3, w.Instance(), w2.Instance())
		handler.want(t, ran)
		if got := settled(t, app.Tap, genuine.Reply); got != replies {
			t.Errorf("%s: a repeated request got %d answers", name, got-replies)
		}
	}
	elsewhere.want(t, 0)
}

// settled is how many messages a tap has seen on a subject when no more have come for a while: they reach it some time after
// the server has passed them on.
func settled(t *testing.T, tap *relaytest.Tap, subject string) int {
	t.Helper()
	tap.Flush()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	n := len(tap.On(subject))
	for same := 0; same < 5; same++ {
		<-tick.C
		if now := len(tap.On(subject)); now != n {
			n, same = now, 0
		}
	}
	return n
}

// waitDropped waits until that many messages have been dropped.
func waitDropped(t *testing.T, i *inspector, n uint64, instances ...string) {
	t.Helper()
	i.wait(instances[0], "the message was dropped", func(s stats) bool {
		sum := s.Dropped
		for _, other := range instances[1:] {
			sum += i.stats(other).Dropped
		}
		return sum >= n
	})
}

// A request as the publisher sent it, played again: as it is, to a worker that has taken its place, and altered.
func TestCapturedRequest(t *testing.T) {
	n, _ := withBatch(t)
	handler := &counter{handler: says("hello")}
	w, stop := n.Worker(handler, nil)
	client := n.Publisher(nil)
	app := n.RawApp()
	send(t, client, "POST", "/do").want(t, 200, "hello")
	captured := app.Tap.Wait(".req.", 1)
	inspect := newInspector(t, n)
	for range 10 {
		app.Tap.Send(captured)
	}
	for _, m := range alterations(app, captured, nil) {
		app.Tap.Send(m)
	}
	waitDropped(t, inspect, 10, w.Instance())
	send(t, client, "POST", "/do").want(t, 200, "hello")
	handler.want(t, 2)
	stop() // the same process's successor has another instance id and other keys
	w, _ = n.Worker(handler, nil)
	app.Worker(w.Instance())
	moved := relaytest.Copy(captured)
	moved.Subject = app.Subjects.Request(relaytest.Service, w.Instance(), relaytest.App)
	app.Tap.Send(captured)
	app.Tap.Send(moved)
	waitDropped(t, inspect, 1, w.Instance())
	handler.want(t, 2)
}

// A request that was held back past the window is refused, whatever its grant's life.
func TestDelayedRequest(t *testing.T) {
	n, log := start(t)
	handler := &counter{}
	w, _ := n.Worker(handler, nil)
	app := n.RawApp()
	said := app.Worker(w.Instance())
	grant, compact := app.Grant(said, alice())
	app.Tap.Send(app.Request(said, grant, compact, relay.NewID(), func(h *relay.RequestHead) { h.IssuedAt -= 31_000 }))
	log.Wait(t, "refused", "clock_skew", "or it was held back")
	handler.want(t, 0)
}

// A full replay cache refuses, and says so; it forgets nothing to make room.
func TestReplayCacheIsFull(t *testing.T) {
	n, log := start(t)
	handler := &counter{}
	w, _ := n.Worker(handler, withReplayCapacity(4)) // three of which may be one person's
	client := n.Publisher(nil)
	app := n.RawApp()
	for range 3 {
		send(t, client, "POST", "/").want(t, 200, "")
	}
	send(t, client, "POST", "/").wantCode(t, relay.CodeRefusedUnverified, "replay_full")
	log.Wait(t, "refused", "code=replay_full", "its limit")
	before := newInspector(t, n).stats(w.Instance()).Dropped
	for _, m := range app.Tap.On(".req.") {
		app.Tap.Send(m)
	}
	waitDropped(t, newInspector(t, n), before+4, w.Instance())
	handler.want(t, 3)
}
