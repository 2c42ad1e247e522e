package natsconf_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
)

// An inspector that tries every way to join a group does not get in the worker's way, and sees what it is shown.
func TestInspectorDoesNotSteal(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	worker := subscribe(t, f.connect(t, middleware), "obo.v1.*.middleware.i1.>")
	thief := f.connect(t, inspector)
	onlooker := subscribe(t, thief, ">")
	for _, subject := range []string{">", "obo.v1.>", "obo.v1.*.middleware.i1.>", "obo.v1.req.middleware.i1.ui"} {
		_, _ = thief.QueueSubscribeSync(subject, "")
		_, _ = thief.QueueSubscribeSync(subject, "q")
	}
	roundTrip(t, thief)
	if !errors.Is(thief.LastError(), nats.ErrPermissionViolation) {
		t.Errorf("joined a queue group: %v", thief.LastError())
	}
	app := f.connect(t, ui)
	for range 100 {
		if err := app.Publish("obo.v1.req.middleware.i1.ui", nil); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		receive(t, worker)
		receive(t, onlooker)
	}
}

// A request whose reply subject is an administrative one does not lend the worker that subject: this is what
// allow_responses would have done.
func TestWorkerIsNotReflected(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *natsconf.Config) { c.StoreDir = t.TempDir() })
	admin := f.connect(t, root)
	js, err := admin.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.AddStream(&nats.StreamConfig{Name: "S", Subjects: []string{"kept"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish("kept", []byte("worth keeping")); err != nil {
		t.Fatal(err)
	}
	workerConn := f.connect(t, middleware)
	worker := subscribe(t, workerConn, "obo.v1.*.middleware.i1.>")
	app := f.connect(t, ui)
	for _, reply := range []string{"$JS.API.STREAM.PURGE.S", "$JS.API.STREAM.DELETE.S", "obo.v1.announce.billing", "obo.v1.req.billing.i1.batch", "obo.v1.rep.batch.r1.id1"} {
		if err := publish(t, app, &nats.Msg{Subject: "obo.v1.req.middleware.i1.ui", Reply: reply}); err != nil {
			t.Fatal(err)
		}
		request := receive(t, worker)
		fresh := f.connect(t, middleware)
		if err := publish(t, fresh, nats.NewMsg(request.Reply)); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("another connection of the worker answered %s: %v", reply, err)
		}
		if err := request.Respond(nil); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, workerConn)
		if !errors.Is(workerConn.LastError(), nats.ErrPermissionViolation) {
			t.Errorf("the worker answered %s: %v", reply, workerConn.LastError())
		}
	}
	if info, err := js.StreamInfo("S"); err != nil || info.State.Msgs != 1 {
		t.Errorf("stream after the attack: %+v, %v", info, err)
	}
}

// The inspector may list streams, and no listing tells it a stored message.
func TestInspectorListsStreams(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *natsconf.Config) { c.StoreDir = t.TempDir() })
	js, err := f.connect(t, root).JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.AddStream(&nats.StreamConfig{Name: "S", Subjects: []string{"kept"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	nc := f.connect(t, inspector, nats.CustomInboxPrefix(natsconf.InspectorInbox))
	look, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := look.StreamInfo("S"); err != nil || info.Config.Name != "S" {
		t.Errorf("stream info: %v", err)
	}
	for name := range look.StreamNames() {
		if name != "S" {
			t.Errorf("stream %q", name)
		}
	}
	if err := publish(t, nc, nats.NewMsg("$JS.API.STREAM.PURGE.S")); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("purge: %v", err)
	}
}

// nats-server writes a trace of a message to the subject that the message's own header names. It must not be a way
// to publish where the sender may not.
func TestTraceHeaderDoesNotPublish(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	witness := f.connect(t, root)
	seen := subscribe(t, witness, ">")
	for who, subject := range map[string]string{
		ui:         "obo.v1.req.middleware.i1.ui",
		middleware: "obo.v1.announce.middleware",
		inspector:  "$SRV.PING",
	} {
		for _, dest := range []string{"obo.v1.announce.billing", "obo.v1.rep.batch.r1.id1", "_INBOX.someone", "$JS.API.STREAM.PURGE.S"} {
			msg := nats.NewMsg(subject)
			msg.Header.Set("Nats-Trace-Dest", dest)
			_ = publish(t, f.connect(t, who), msg)
			wantNothingOn(t, witness, seen, dest)
		}
	}
}

// The worker of a service that shares its name with an app does not see that app's replies.
func TestRepliesToAnAppOfTheSameName(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	worker := subscribe(t, f.connect(t, billing), "obo.v1.*.billing.r1.>")
	if err := publish(t, f.connect(t, middleware), nats.NewMsg("obo.v1.rep.billing.r1.id1")); err != nil {
		t.Fatal(err)
	}
	if err := publish(t, f.connect(t, batch), nats.NewMsg("obo.v1.req.billing.r1.batch")); err != nil {
		t.Fatal(err)
	}
	if msg := receive(t, worker); msg.Subject != "obo.v1.req.billing.r1.batch" {
		t.Errorf("the worker received %s", msg.Subject)
	}
}

// wantNothingOn waits for the trace of a message of the witness's own: the server sends traces in order.
func wantNothingOn(t *testing.T, witness *nats.Conn, seen *nats.Subscription, subject string) {
	t.Helper()
	const marker = "witness.trace"
	traced := nats.NewMsg("witness.marker")
	traced.Header.Set("Nats-Trace-Dest", marker)
	if err := witness.PublishMsg(traced); err != nil {
		t.Fatal(err)
	}
	for {
		msg := receive(t, seen)
		if msg.Subject == marker {
			return
		}
		if msg.Subject == subject {
			t.Errorf("something arrived on %s: %q", subject, msg.Data)
		}
	}
}
