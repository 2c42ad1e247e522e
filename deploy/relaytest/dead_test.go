package relaytest_test

import (
	"errors"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// two starts two workers, each behind a proxy of its own, that block in their handlers; and a publisher that knows both.
func two(t *testing.T, n *relaytest.Net, change func(*publisher.Config)) (b *blocker, kill map[string]func(), client *publisher.Transport) {
	t.Helper()
	client = n.Publisher(change)
	send(t, client, "POST", "/").wantCode(t, relay.CodeNoWorker) // it listens now
	b, kill = newBlocker(), map[string]func(){}
	for _, name := range []string{"first", "second"} {
		proxy := n.Door()
		n.Worker(b.handler(name), func(c *worker.Config) { c.NATS.URL = proxy.URL })
		kill[name] = proxy.Kill
	}
	waitForWorkers(t, n, 2)
	return b, kill, client
}

// A worker dies with a request, while somebody listens to everything, so that the broker reports no missing receiver. A
// safe method is tried at the other worker; a POST ends as unknown and is not executed a second time.
func TestDeadWorkerWithAnInspector(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			n, _ := start(t)
			n.Tap(n.Inspector, ">")
			b, kill, client := two(t, n, nil)
			got := background(t, client, method, "/")
			victim := relaytest.Recv(t, b.running, "the handler")
			kill[victim]()
			if method == "POST" {
				r := relaytest.Recv(t, got, "the reply")
				r.wantCode(t, relay.CodeOutcomeUnknown, "may have been executed: check before you repeat it")
				var e *relay.Error
				if errors.As(r.err, &e); e.Problem().Status != 504 || e.Problem().Outcome != relay.Unknown {
					t.Errorf("%+v", e.Problem())
				}
				if len(b.running) != 0 {
					t.Error("it was executed again")
				}
				return
			}
			other := relaytest.Recv(t, b.running, "the other handler")
			if other == victim {
				t.Fatal("the dead worker got it again")
			}
			close(b.resume)
			relaytest.Recv(t, got, "the reply").want(t, 200, other)
		})
	}
}

// An Idempotency-Key makes a POST repeatable.
func TestIdempotencyKeyIsTriedElsewhere(t *testing.T) {
	n, _ := start(t)
	b, kill, client := two(t, n, nil)
	r := newRequest(t, "POST", "/", nil)
	r.Header.Set("Idempotency-Key", "k1")
	got := make(chan reply, 1)
	go func() { got <- do(client, r) }()
	victim := relaytest.Recv(t, b.running, "the handler")
	kill[victim]()
	other := relaytest.Recv(t, b.running, "the other handler")
	close(b.resume)
	relaytest.Recv(t, got, "the reply").want(t, 200, other)
}

// A worker that is dead before the request comes: the honest broker says so, which a publisher believes only if told to.
func TestDeadBeforeTheRequest(t *testing.T) {
	for _, trust := range []bool{false, true} {
		for _, method := range []string{"GET", "POST"} {
			name := method
			if trust {
				name += " with --trust-broker"
			}
			t.Run(name, func(t *testing.T) {
				n, log := start(t)
				b, kill, client := two(t, n, func(c *publisher.Config) { c.TrustBroker = trust })
				close(b.resume)
				// Whom does this token choose?
				chosen := send(t, client, "GET", "/").body
				relaytest.Recv(t, b.running, "the handler")
				kill[chosen]()
				log.Wait(t, "disconnected from NATS, reconnecting")
				subscribersGone(t, n, 1)
				got := send(t, client, method, "/")
				if method == "POST" && !trust {
					got.wantCode(t, relay.CodeOutcomeUnknown, "NATS says that worker", "which nothing proves")
					if len(b.running) != 0 {
						t.Error("it was tried elsewhere")
					}
					return
				}
				if got.err != nil || got.body == chosen {
					t.Errorf("%s", got)
				}
			})
		}
	}
}

// subscribersGone waits until the server has only so many workers left.
func subscribersGone(t *testing.T, n *relaytest.Net, left int) {
	t.Helper()
	i := newInspector(t, n)
	inbox := i.nc.NewInbox()
	for range 1000 {
		sub, err := i.nc.SubscribeSync(inbox)
		relaytest.Must(t, err)
		relaytest.Must(t, i.nc.PublishRequest("$SRV.PING.obo-middleware", inbox, nil))
		relaytest.Must(t, i.nc.FlushTimeout(relaytest.Patience))
		answers := 0
		for {
			if _, err := sub.NextMsg(relaytest.Patience / 200); err != nil {
				break
			}
			answers++
		}
		relaytest.Must(t, sub.Unsubscribe())
		if answers <= left {
			return
		}
	}
	t.Fatal("the worker is still there")
}
