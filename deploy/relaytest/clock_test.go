package relaytest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// A clock that is off by more than the leeway is named as the cause, to the caller and in a log.
func TestClockSkew(t *testing.T) {
	for _, c := range []struct {
		name   string
		worker time.Duration // the worker's clock, relative to the publisher's
		says   []string      // to the caller
		log    []string
	}{
		{"worker ahead", 2 * time.Minute, []string{"ahead of this one", "Set the clocks of both machines"}, []string{"an announcement was not believed", "clock_skew", "ahead of this one"}},
		{"worker far behind", -2 * time.Minute, []string{"ago by its clock", "Set the clocks of both machines"}, []string{"an announcement was not believed", "clock_skew"}},
		// Between the two bounds the announcement still counts, and the worker notices.
		{"worker behind", -40 * time.Second, []string{"the clocks differ"}, []string{"refused", "in the future: the clocks differ"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, log := start(t)
			handler := &counter{}
			n.Worker(handler, func(w *worker.Config) { w.Now = func() time.Time { return time.Now().Add(c.worker) } })
			client := n.Publisher(nil)
			got := send(t, client, "POST", "/")
			code := relay.CodeClockSkew
			if c.worker == -40*time.Second {
				code = relay.CodeRefusedUnverified
			}
			got.wantCode(t, code, c.says...)
			log.Wait(t, c.log...)
			handler.want(t, 0)
		})
	}
}

// The publisher's clock is the one that is off.
func TestClockSkewOfThePublisher(t *testing.T) {
	for _, off := range []time.Duration{-2 * time.Minute, 2 * time.Minute} {
		t.Run(off.String(), func(t *testing.T) {
			n, log := start(t)
			handler := &counter{}
			n.Worker(handler, nil)
			client := n.Publisher(func(c *publisher.Config) { c.Now = func() time.Time { return time.Now().Add(off) } })
			send(t, client, "POST", "/").wantCode(t, relay.CodeClockSkew, "30 s are allowed")
			log.Wait(t, "an announcement was not believed", "Set the clocks")
			handler.want(t, 0)
		})
	}
}

// Within the leeway nobody notices.
func TestClocksWithinTheLeeway(t *testing.T) {
	for _, off := range []time.Duration{-25 * time.Second, 25 * time.Second} {
		t.Run(off.String(), func(t *testing.T) {
			n, _ := start(t)
			n.Worker(says("hello"), func(c *worker.Config) { c.Now = func() time.Time { return time.Now().Add(off) } })
			send(t, n.Publisher(nil), "POST", "/").want(t, 200, "hello")
		})
	}
}

// A grant made before is still good, but the head comes from a clock that has drifted: the worker names it, unsealed.
func TestHeadFromADriftedClock(t *testing.T) {
	n, log := start(t)
	handler := &counter{}
	w, _ := n.Worker(handler, nil)
	app := n.RawApp()
	said := app.Worker(w.Instance())
	grant, compact := app.Grant(said, alice())
	for i, off := range []time.Duration{-31 * time.Second, 35 * time.Second} {
		app.Tap.Send(app.Request(said, grant, compact, relay.NewID(), func(h *relay.RequestHead) { h.IssuedAt += off.Milliseconds() }))
		m := app.Tap.Wait(".rep.", i+1)
		if code, ok := relay.ParseUnsealedRefusal(m.Data); !ok || code != relay.CodeClockSkew {
			t.Errorf("%v: answered %q", off, m.Data)
		}
	}
	log.Wait(t, "refused", "clock_skew", "30 s are allowed")
	handler.want(t, 0)
	app.Tap.Send(app.Request(said, grant, compact, relay.NewID(), nil))
	app.Tap.Wait(".rep.", 3)
	handler.want(t, 1)
}

// An unsealed clock_skew reaches the caller as what it is: an unproved hint, and it says so.
func TestUnsealedClockSkewIsAHint(t *testing.T) {
	n, _ := start(t)
	b := newBlocker()
	n.Worker(b.handler("done"), nil)
	client := n.Publisher(nil)
	root := n.Tap(n.Root, "obo.v1.req.>")
	later := background(t, client, "POST", "/")
	forged := root.Wait(".req.", 1)
	relaytest.Recv(t, b.running, "the handler")
	root.Send(natsMsg(forged.Reply, relay.UnsealedRefusal(relay.CodeClockSkew)))
	close(b.resume)
	got := <-later
	if got.err != nil && !errors.Is(got.err, relay.CodeRefusedUnverified) {
		t.Errorf("%s", got)
	}
	got.want(t, 200, "done")
}
