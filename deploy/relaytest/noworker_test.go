package relaytest_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
)

// Without a worker the caller hears so after one round of asking, not after the timeout.
func TestNoWorker(t *testing.T) {
	n, _ := start(t)
	client := n.Publisher(func(c *publisher.Config) { c.DiscoverWait = 500 * time.Millisecond })
	send(t, client, "GET", "/").wantCode(t, relay.CodeNoWorker) // connected now
	began := time.Now()
	send(t, client, "POST", "/").wantCode(t, relay.CodeNoWorker, "no worker of service middleware has announced itself", "Start obo-worker")
	if took := time.Since(began); took < 500*time.Millisecond || took > 3*time.Second {
		t.Errorf("took %v, the round of asking is 500 ms", took)
	}
	server := sidecar(t, client)
	r := newRequest(t, "GET", "/", nil)
	r.URL.Host, r.Host = server.Listener.Addr().String(), ""
	got := do(sidecarClient(t).Transport, r)
	if p := problemOf(t, got); got.StatusCode != 503 || p.Code != relay.CodeNoWorker || p.Outcome != relay.NotDelivered {
		t.Errorf("%s", got)
	}
}

// The wait is a setting, and a worker that comes within it serves.
func TestWorkerComesWhileAsked(t *testing.T) {
	n, _ := start(t)
	client := n.Publisher(func(c *publisher.Config) { c.DiscoverWait = time.Minute })
	tap := n.Tap(n.Inspector, "obo.v1.discover.>")
	later := background(t, client, "POST", "/")
	for len(tap.All()) == 0 || n.Broker.ClientURL() == "" {
		tap.Wait(".discover.", 1)
	}
	n.Worker(says("hello"), nil)
	(<-later).want(t, 200, "hello")
}

// A worker that has stopped is gone at once: it said so.
func TestWorkerHasStopped(t *testing.T) {
	n, log := start(t)
	_, stop := n.Worker(says("hello"), nil)
	client := n.Publisher(nil)
	send(t, client, "POST", "/").want(t, 200, "hello")
	stop()
	log.Wait(t, "drained")
	began := time.Now()
	got := send(t, client, "POST", "/")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if !errors.Is(got.err, relay.CodeNoWorker) && !errors.Is(got.err, relay.CodeOutcomeUnknown) {
		t.Errorf("%s", got)
	}
}

func TestUnknownService(t *testing.T) {
	n, _ := start(t)
	handler := &counter{}
	n.Worker(handler, nil)
	client := n.Publisher(nil)
	for _, host := range []string{"billing", "middleware.evil", "middleware:80", "MIDDLEWARE", "", "user@middleware"} {
		r := newRequest(t, "GET", "/", nil)
		r.URL.Host = host
		do(client, r).wantCode(t, relay.CodeServiceUnknown, "trust file")
	}
	handler.want(t, 0)
	if _, err := publisher.NewSidecar(publisher.SidecarConfig{Transport: client, Service: "billing"}); err == nil || !strings.Contains(err.Error(), "it names middleware") {
		t.Errorf("sidecar of an unknown service: %v", err)
	}
}

// A caller that has left before it began costs nothing, and is told so.
func TestCallerThatHasLeft(t *testing.T) {
	n, _ := start(t)
	handler := &counter{}
	n.Worker(handler, nil)
	client := n.Publisher(nil)
	send(t, client, "GET", "/").want(t, 200, "")
	r := newRequest(t, "POST", "/", http.NoBody)
	ctx, cancel := contextWith(t)
	cancel()
	do(client, r.WithContext(ctx)).wantCode(t, relay.CodeCanceled)
	late, cancel := contextUntil(t, time.Now().Add(-time.Second))
	defer cancel()
	do(client, r.WithContext(late)).wantCode(t, relay.CodeTimeout)
	handler.want(t, 1)
}
