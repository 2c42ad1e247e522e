package relaytest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// NATS is not there when both sides start: they come up, callers hear 503, and everything works once it is there.
func TestNATSGoneAtStart(t *testing.T) {
	n, log := start(t)
	n.StopBroker()
	handler := &counter{handler: says("hello")}
	n.Worker(handler, nil)
	client := n.Publisher(func(c *publisher.Config) { c.ConnectWait = 50 * time.Millisecond })
	for range 3 {
		send(t, client, "POST", "/lost").wantCode(t, relay.CodeNATSUnavailable, "NATS could not be reached", "--nats URL")
	}
	log.Wait(t, "cannot connect to NATS, trying again")
	n.StartBroker()
	patient(t, n, client).want(t, 200, "hello")
	handler.want(t, 1)
}

// patient sends one request that is served as soon as it can be: what cannot be published is not sent later.
func patient(t *testing.T, n *relaytest.Net, client *publisher.Transport) reply {
	t.Helper()
	deadline := time.Now().Add(relaytest.Patience)
	for {
		got := send(t, client, "POST", "/")
		temporary := errors.Is(got.err, relay.CodeNATSUnavailable) || errors.Is(got.err, relay.CodeNoWorker)
		if !temporary || time.Now().After(deadline) {
			return got
		}
	}
}

// NATS goes and comes back: callers hear 503 meanwhile, both sides reconnect, and nothing of those callers is delivered
// later.
func TestNATSGoneInTheMiddle(t *testing.T) {
	n, log := start(t)
	handler := &counter{handler: says("hello")}
	n.Worker(handler, nil)
	client := n.Publisher(func(c *publisher.Config) { c.ConnectWait = 10 * time.Millisecond })
	patient(t, n, client).want(t, 200, "hello")
	handler.want(t, 1)
	n.StopBroker()
	log.WaitTimes(t, 2, "disconnected from NATS, reconnecting") // both sides know
	for range 20 {
		got := send(t, client, "POST", "/lost")
		if !errors.Is(got.err, relay.CodeNATSUnavailable) {
			t.Errorf("%s", got)
		}
		if e := new(relay.Error); errors.As(got.err, &e) && (e.Problem().Status != 503 || e.Problem().Outcome != relay.NotDelivered) {
			t.Errorf("%+v", e.Problem())
		}
	}
	n.StartBroker()
	lost := n.Tap(n.Inspector, "obo.v1.req.>") // sees everything that arrives after the outage
	patient(t, n, client).want(t, 200, "hello")
	handler.want(t, 2)
	for _, m := range lost.All() {
		if strings.HasPrefix(m.Header.Get("Obo-Path"), "/lost") {
			t.Errorf("a request of a caller that was told 503 was delivered: %v", m.Header)
		}
	}
}

// A request that is under way when NATS goes for a moment ends as if nothing had been: worker and publisher send again
// what was not acknowledged.
func TestNATSGoneDuringARequest(t *testing.T) {
	n, _ := start(t)
	b := newBlocker()
	handler := &counter{handler: b.handler("done")}
	n.Worker(handler, nil)
	client := n.Publisher(nil)
	got := background(t, client, "POST", "/")
	relaytest.Recv(t, b.running, "the handler")
	n.StopBroker()
	close(b.resume) // the reply has nowhere to go
	n.StartBroker()
	relaytest.Recv(t, got, "the reply").want(t, 200, "done")
	handler.want(t, 1)
}

// The publisher's connection is away at the moment of the reply, which the broker therefore drops.
func TestReplyDroppedByTheBroker(t *testing.T) {
	n, log := start(t)
	b := newBlocker()
	handler := &counter{handler: b.handler(strings.Repeat("x", 100_000))}
	n.Worker(handler, nil)
	proxy := n.Door()
	client := n.Publisher(func(c *publisher.Config) { c.NATS.URL = proxy.URL })
	got := background(t, client, "POST", "/")
	relaytest.Recv(t, b.running, "the handler")
	tap := n.Tap(n.Inspector, "obo.v1.rep.>")
	proxy.Kill()
	log.Wait(t, "disconnected from NATS, reconnecting")
	close(b.resume)
	tap.Wait(".rep.", 1) // it went out, to nobody
	proxy.Revive()
	relaytest.Recv(t, got, "the reply").want(t, 200, strings.Repeat("x", 100_000))
	handler.want(t, 1)
}

// The same for a small reply, which is one message that nobody acknowledges.
func TestSmallReplyDroppedByTheBroker(t *testing.T) {
	n, log := start(t)
	b := newBlocker()
	handler := &counter{handler: b.handler("done")}
	n.Worker(handler, nil)
	proxy := n.Door()
	client := n.Publisher(func(c *publisher.Config) { c.NATS.URL = proxy.URL })
	got := background(t, client, "POST", "/")
	relaytest.Recv(t, b.running, "the handler")
	tap := n.Tap(n.Inspector, "obo.v1.rep.>")
	proxy.Kill()
	log.Wait(t, "disconnected from NATS, reconnecting")
	close(b.resume)
	first := tap.Wait(".rep.", 1)
	proxy.Revive()
	relaytest.Recv(t, got, "the reply").want(t, 200, "done")
	handler.want(t, 1)
	again := tap.Wait(".rep.", 2)
	if string(first.Data) != string(again.Data) { // credit frames differ, so look for the very bytes among all
		same := false
		for _, m := range tap.All()[1:] {
			same = same || string(m.Data) == string(first.Data)
		}
		if !same {
			t.Error("the reply was not sent again as it was")
		}
	}
}

// The worker's connection is away: what it missed is sent again.
func TestWorkerReconnectsDuringARequest(t *testing.T) {
	n, log := start(t)
	b := newBlocker()
	handler := &counter{handler: b.handler("done")}
	proxy := n.Door()
	n.Worker(handler, func(c *worker.Config) { c.NATS.URL = proxy.URL })
	client := n.Publisher(nil)
	got := background(t, client, "POST", "/")
	relaytest.Recv(t, b.running, "the handler")
	proxy.Kill()
	log.Wait(t, "disconnected from NATS, reconnecting")
	close(b.resume)
	log.Wait(t, "msg=request") // the handler has ended
	proxy.Revive()
	relaytest.Recv(t, got, "the reply").want(t, 200, "done")
	handler.want(t, 1)
}

// A user that the server does not know: 503 for callers, and the log says what the server says.
func TestWrongNATSUser(t *testing.T) {
	n, log := start(t)
	n.Worker(says("hello"), nil)
	client := n.Publisher(func(c *publisher.Config) {
		c.NATS.NKeySeed, c.ConnectWait = relaytest.NewUser(t).Seed, 100*time.Millisecond
	})
	send(t, client, "POST", "/").wantCode(t, relay.CodeNATSUnavailable)
	log.Wait(t, "cannot connect to NATS, trying again", "Authorization Violation")
}

// Users with each other's permissions: the caller is told that it is not for want of a worker, and the log names the subject
// that is denied and what to compare.
func TestWrongPermissions(t *testing.T) {
	n, log := start(t)
	n.Worker(says("hello"), nil)
	client := n.Publisher(func(c *publisher.Config) { c.NATS.NKeySeed = n.Service.Seed })
	r := send(t, client, "POST", "/")
	r.wantCode(t, relay.CodeNATSDenied, "the server does not let this user ")
	if got := relay.AsError(r.err).Problem(); got.Outcome != relay.NotDelivered {
		t.Errorf("%+v", got)
	}
	log.Wait(t, "the NATS server denies this user a subject: compare its permissions with what obo init generates", "obo.v1.announce.middleware")
}

// The app may listen but not send: the request is answered at once, not after a timeout, and it was not executed.
func TestPublishDenied(t *testing.T) {
	t.Parallel()
	log := new(relaytest.Log)
	n := relaytest.NewWith(t, log, relaytest.Options{ServerConf: func(text string) string {
		return strings.Replace(text, `"obo.v1.req.middleware.*.ui"`, `"obo.v1.req.other.*.ui"`, 1)
	}})
	handler := &counter{}
	n.Worker(handler, nil)
	client := n.Publisher(nil)
	began := time.Now()
	send(t, client, "POST", "/").wantCode(t, relay.CodeNATSDenied, "Grant the app's NATS user the subjects that obo init generates")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	log.Wait(t, "the NATS server denies this user a subject", "obo.v1.req.middleware.")
	handler.want(t, 0)
}

// The app may send but not hear replies: nothing is sent that would be executed unheard. When the server's permissions are mended,
// which it tells nobody, requests go out.
func TestRepliesDenied(t *testing.T) {
	t.Parallel()
	log := new(relaytest.Log)
	file, mended := filepath.Join(t.TempDir(), "nats-server.conf"), ""
	n := relaytest.NewWith(t, log, relaytest.Options{
		ServerConf: func(text string) string {
			mended = text
			head, tail, _ := strings.Cut(text, "Service middleware:") // the app's users come first
			return strings.Replace(head, `"obo.v1.rep.ui.*.*"`, `"obo.v1.rep.other.*.*"`, 1) + "Service middleware:" + tail
		},
		Broker: func(c *broker.Config) {
			relaytest.Must(t, os.WriteFile(file, []byte(c.ConfigText), 0o600))
			c.ConfigFile, c.ConfigText = file, ""
		},
	})
	handler := &counter{}
	n.Worker(handler, nil)
	client := n.Publisher(nil)
	log.Wait(t, "the NATS server denies this user a subject", "obo.v1.rep.ui.")
	r := send(t, client, "POST", "/")
	r.wantCode(t, relay.CodeNATSDenied, "the server does not let this user receive the replies to app ui")
	if got := relay.AsError(r.err).Problem(); got.Outcome != relay.NotDelivered {
		t.Errorf("%+v", got)
	}
	handler.want(t, 0)
	relaytest.Must(t, os.WriteFile(file, []byte(mended), 0o600))
	relaytest.Must(t, n.Broker.Reload())
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(time.Minute); errors.Is(r.err, relay.CodeNATSDenied) && time.Now().Before(deadline); <-poll.C {
		r = send(t, client, "POST", "/")
	}
	r.want(t, 200, "")
	handler.want(t, 1)
}

// A worker whose service is another's in the server's eyes neither hears requests nor announces itself.
func TestWorkerOfAnotherService(t *testing.T) {
	t.Parallel()
	log := new(relaytest.Log)
	other := relaytest.NewUser(t)
	n := relaytest.NewWith(t, log, relaytest.Options{Conf: func(c *natsconf.Config) {
		c.Apps[0].Calls = append(c.Apps[0].Calls, "billing")
		c.Services = append(c.Services, natsconf.Service{Name: "billing", NKeys: []string{other.Public}, Apps: []string{relaytest.App}})
	}})
	handler := &counter{}
	n.Worker(handler, func(c *worker.Config) { c.NATS.NKeySeed = other.Seed })
	send(t, n.Publisher(nil), "POST", "/").wantCode(t, relay.CodeNoWorker)
	log.Wait(t, "the NATS server denies this user a subject", `Subscription to \"obo.v1.*.middleware.`)
	handler.want(t, 0)
}

// A worker that may announce itself but not hear requests does not: whoever sent it one would wait, and not know what became of it.
// When the permissions are mended it does.
func TestWorkerThatHearsNoRequests(t *testing.T) {
	t.Parallel()
	log := new(relaytest.Log)
	file, mended := filepath.Join(t.TempDir(), "nats-server.conf"), ""
	n := relaytest.NewWith(t, log, relaytest.Options{
		ServerConf: func(text string) string {
			mended = text
			return strings.Replace(text, `"obo.v1.*.middleware.*.>"`, `"obo.v1.*.other.*.>"`, 1)
		},
		Broker: func(c *broker.Config) {
			relaytest.Must(t, os.WriteFile(file, []byte(c.ConfigText), 0o600))
			c.ConfigFile, c.ConfigText = file, ""
		},
	})
	w, _ := n.Worker(says("hello"), nil)
	log.Wait(t, "the NATS server denies this user a subject", `Subscription to \"obo.v1.*.middleware.`)
	client := n.Publisher(func(c *publisher.Config) { c.DiscoverWait = 500 * time.Millisecond })
	send(t, client, "POST", "/").wantCode(t, relay.CodeNoWorker)
	if got := newInspector(t, n).state(w.Instance()); got != string(relay.CodeNATSDenied) {
		t.Errorf("the worker is %s", got)
	}
	relaytest.Must(t, os.WriteFile(file, []byte(mended), 0o600))
	relaytest.Must(t, n.Broker.Reload())
	waitUntil(t, "the worker announces itself", func() bool { return send(t, client, "POST", "/").err == nil })
}

// Stopping the publisher ends what is under way, as unknown, and begins nothing new.
func TestPublisherStops(t *testing.T) {
	n, _ := start(t)
	b := newBlocker()
	handler := &counter{handler: b.handler("done")}
	n.Worker(handler, nil)
	client, stop := n.StoppablePublisher(nil)
	got := background(t, client, "POST", "/")
	relaytest.Recv(t, b.running, "the handler")
	stop()
	r := relaytest.Recv(t, got, "the reply")
	var e *relay.Error
	if !errors.As(r.err, &e) || e.Problem().Outcome != relay.Unknown {
		t.Errorf("%s", r)
	}
	send(t, client, "POST", "/").wantCode(t, relay.CodePublisherDraining)
	handler.want(t, 1)
}
