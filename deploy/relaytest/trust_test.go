package relaytest_test

import (
	"errors"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// The publisher's trust file has another key for the service: nothing is sealed to that worker, and log and problem name
// its key and say where it belongs.
func TestWorkerIsNotTrusted(t *testing.T) {
	n, log := start(t)
	handler := &counter{}
	n.Worker(handler, nil)
	wrong := relay.NewIdentity()
	client := n.Publisher(func(c *publisher.Config) { c.Trust = relaytest.TrustOf(t, n.AppID, wrong) })
	tap := n.Tap(n.Inspector, "obo.v1.req.>")
	send(t, client, "POST", "/").wantCode(t, relay.CodeWorkerUntrusted, n.ServiceID.Kid(), wrong.Kid(), "Put the service's public key into the publisher's trust file")
	log.Wait(t, "an announcement was not believed", "worker_untrusted", n.ServiceID.Kid(), "Put the service's public key into the publisher's trust file")
	if len(tap.All()) != 0 {
		t.Error("a request left the publisher")
	}
	client.SetTrust(n.Trust) // the operator corrects the file
	send(t, client, "POST", "/").want(t, 200, "")
	handler.want(t, 1)
	client.SetTrust(relaytest.TrustOf(t, n.AppID, wrong)) // and takes the trust away again
	send(t, client, "POST", "/").wantCode(t, relay.CodeWorkerUntrusted)
	handler.want(t, 1)
}

// The worker's trust file has another key for the app: the worker's log names it and says what to do, the caller is
// pointed there.
func TestAppIsNotTrusted(t *testing.T) {
	n, log := start(t)
	handler := &counter{}
	wrong := relay.NewIdentity()
	w, _ := n.Worker(handler, func(c *worker.Config) { c.Trust = relaytest.TrustOf(t, wrong, n.ServiceID) })
	client := n.Publisher(nil)
	got := send(t, client, "POST", "/")
	got.wantCode(t, relay.CodeRefusedUnverified, "the worker's trust file lacks this app's key")
	var e *relay.Error
	errors.As(got.err, &e)
	log.Wait(t, "refused", "request_id="+e.RequestID, n.AppID.Kid(), wrong.Kid(), "add it to this worker's trust file if it is right")
	handler.want(t, 0)
	w.SetTrust(n.Trust)
	send(t, client, "POST", "/").want(t, 200, "")
	ran := handler.n.Load()                              // the first request too, if its bytes came once more just now: its outcome was unknown
	w.SetTrust(relaytest.TrustOf(t, wrong, n.ServiceID)) // the kept grant must not serve any longer
	send(t, client, "POST", "/").wantCode(t, relay.CodeRefusedUnverified)
	handler.want(t, ran)
}

// A key counts for its own role and name only: the app's key announces no service, the service's key sends no request.
func TestKeysOfAnotherRole(t *testing.T) {
	n, _ := start(t)
	handler := &counter{}
	n.Worker(handler, func(c *worker.Config) { c.Identity = n.AppID })
	send(t, n.Publisher(nil), "POST", "/").wantCode(t, relay.CodeWorkerUntrusted)
	n.Worker(handler, nil)
	client := n.Publisher(func(c *publisher.Config) { c.Identity = n.ServiceID })
	send(t, client, "POST", "/").wantCode(t, relay.CodeRefusedUnverified)
	handler.want(t, 0)
}
