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

// Identity keys are replaced under load: each side names both keys for a while, and no request is lost.
func TestIdentityRotation(t *testing.T) {
	n, _ := start(t)
	handler := &counter{}
	w, _ := n.Worker(handler, nil)
	client := n.Publisher(nil)
	nextApp, nextService := relay.NewIdentity(), relay.NewIdentity()
	both, err := relay.TrustFile{
		Type:     relay.TrustTypeName,
		Apps:     map[string]relay.JWKS{relaytest.App: {Keys: []relay.JWK{n.AppID.Public(), nextApp.Public()}}},
		Services: map[string]relay.JWKS{relaytest.Service: {Keys: []relay.JWK{n.ServiceID.Public(), nextService.Public()}}},
	}.Trust()
	relaytest.Must(t, err)
	n.Trust = both
	steps := []func(){
		func() { w.SetTrust(both) },
		func() { client.SetTrust(both) },
		func() { n.Worker(handler, func(c *worker.Config) { c.Identity = nextService }) },
		func() {
			next := n.Publisher(func(c *publisher.Config) { c.Identity = nextApp })
			send(t, next, "POST", "/").want(t, 200, "")
		},
		func() { client.SetTrust(both) },
	}
	stop := make(chan struct{})
	done := make(chan int)
	go func() {
		sent := 0
		for {
			select {
			case <-stop:
				done <- sent
				return
			default:
				send(t, client, "POST", "/").want(t, 200, "")
				sent++
			}
		}
	}()
	for _, step := range steps {
		step()
	}
	close(stop)
	if sent := <-done; sent == 0 {
		t.Error("nothing was sent meanwhile")
	}
}
