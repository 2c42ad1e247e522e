package relaytest_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/hostile"
	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
)

// outside is a stage with a second app, batch: its NATS user and its identity are as good as the first one's, and its owner
// is not to be trusted.
type outside struct {
	*stage
	batch relaytest.User
	id    relay.Identity
	w     end
}

func newOutside(t *testing.T, h http.Handler) *outside {
	t.Helper()
	t.Parallel()
	log, batch, id := new(relaytest.Log), relaytest.NewUser(t), relay.NewIdentity()
	n := relaytest.NewWith(t, log, relaytest.Options{Conf: func(c *natsconf.Config) {
		c.Apps = append(c.Apps, natsconf.App{Name: "batch", NKeys: []string{batch.Public}, Calls: []string{relaytest.Service}})
		c.Services[0].Apps = append(c.Services[0].Apps, "batch")
	}})
	trust, err := relay.TrustFile{
		Type:     relay.TrustTypeName,
		Apps:     map[string]relay.JWKS{relaytest.App: {Keys: []relay.JWK{n.AppID.Public()}}, "batch": {Keys: []relay.JWK{id.Public()}}},
		Services: map[string]relay.JWKS{relaytest.Service: {Keys: []relay.JWK{n.ServiceID.Public()}}},
	}.Trust()
	relaytest.Must(t, err)
	n.Trust = trust
	o := &outside{stage: stageOn(t, n, log), batch: batch, id: id}
	o.w = o.worker(h, nil)
	return o
}

// What an app with a NATS user of its own can publish: a request of its own, whose reply subject is whatever it likes. The
// worker answers on the reply subjects of that app alone, and executes nothing whose answer would go elsewhere.
func TestOutsiderAimsReplies(t *testing.T) {
	o := newOutside(t, http.HandlerFunc(namesItself))
	app := o.RawApp()
	said := app.Worker(o.w.Instance())
	token, err := relay.NewToken(alice())
	relaytest.Must(t, err)
	nc := o.Connect(o.batch)
	victim := relay.NewID().String() // an inbox of the other app
	send := func(reply string, headSays string) *nats.Msg {
		grant, compact, err := relay.SealGrant(o.id, "batch", said, token, time.Now())
		relaytest.Must(t, err)
		id := relay.NewID()
		reply = strings.ReplaceAll(reply, "ID", id.String())
		m := app.Request(said, grant, compact, id, func(h *relay.RequestHead) {
			h.Path = "/" + id.String()
			h.Subject = app.Subjects.Request(relaytest.Service, o.w.Instance(), "batch")
			h.Reply = reply // its own publisher can be changed to say what agrees
			if headSays != "" {
				h.Reply = strings.ReplaceAll(headSays, "ID", id.String())
			}
		})
		m.Reply = reply
		relaytest.Must(t, nc.PublishMsg(m))
		relaytest.Must(t, nc.FlushTimeout(relaytest.Patience))
		return m
	}
	own := "obo.v1.rep.batch." + relay.NewID().String() + ".ID"
	send(own, "")
	o.inspect.wait(o.w.Instance(), "a right one has run", func(s stats) bool { return s.requests == 1 })
	for _, reply := range []string{
		"", "_INBOX.x", "_INBOX.inspector.x", "_INBOX.system.x", "$JS.API.STREAM.PURGE.S", "$SYS.REQ.SERVER.PING", "$SRV.PING", "obo.v1.announce.middleware", "obo.v1.discover.middleware",
		"obo.v1.req.middleware." + o.w.Instance() + ".ui", "obo.v1.ctl.middleware." + o.w.Instance() + ".batch.ID", "obo.v1.req.billing.aaaaaaaaaaaaaaaa.batch",
		"obo.v1.rep.ui." + victim + ".ID", "obo.v1.rep.ui." + victim + ".*", "obo.v1.rep.batch." + victim, "obo.v1.rep.batch." + victim + ".ID.x",
		"obo.v1.rep.batch." + victim + ".*", "obo.v1.rep.batch.>", "obo.v1.rep.batch.*.ID", "obo.v1.rep.BATCH." + victim + ".ID", "obo.v1.rep.batch." + victim + ".ID.",
		"obo.v1.rep.batch.." + victim + ".ID", "x.obo.v1.rep.batch." + victim + ".ID", "obo.v2.rep.batch." + victim + ".ID", "obo.v1.rep.batch." + strings.ToUpper(victim) + ".ID",
	} {
		o.refused(1, func() { send(reply, "") }, o.w)
		o.refused(1, func() { send(reply, own) }, o.w)
	}
	// The subjects are right and the head names others.
	for _, says := range []string{"obo.v1.rep.ui." + victim + ".ID", "obo.v1.rep.batch." + victim + ".ID"} {
		o.refused(1, func() { send(own, says) }, o.w)
	}
	if n := o.ran.all(); n != 1 {
		t.Errorf("executed %d requests, want the right one only", n)
	}
	for _, m := range o.w.door.Passed(hostile.Up) {
		if a := app.Subjects.Parse(m.Subject); ofReplies(m) && (a.App != "batch" || a.Inbox.String() == victim) {
			t.Errorf("answered on %s", m.Subject)
		}
	}
}

// What the broker can deliver on the worker's subscription: subjects of every shape that its wildcards let through, with a
// payload that is genuine elsewhere.
func TestSubjectsOfEveryShape(t *testing.T) {
	o := newOutside(t, http.HandlerFunc(namesItself))
	captured := o.capture(o.publisher(nil), newRequest(t, "POST", "/once", nil))
	id := captured.Reply[strings.LastIndexByte(captured.Reply, '.')+1:]
	i, other := o.w.Instance(), relay.NewInstance()
	for _, subject := range []string{
		"obo.v1.req.middleware." + i, "obo.v1.req.middleware." + i + ".ui.x", "obo.v1.req.middleware." + i + ".UI", "obo.v1.req.middleware." + i + ".*", "obo.v1.req.middleware." + i + ".>",
		"obo.v1.req.middleware." + i + "..ui", "obo.v1.req.middleware." + i + ".batch", "obo.v1.req.middleware." + other + ".ui", "obo.v1.req.billing." + i + ".ui",
		"obo.v1.REQ.middleware." + i + ".ui", "obo.v1.rep.middleware." + i + ".ui", "obo.v1.announce.middleware." + i, "obo.v1.x.middleware." + i + ".ui", "obo.v1.*.middleware." + i + ".ui",
		"obo.v2.req.middleware." + i + ".ui", "x.obo.v1.req.middleware." + i + ".ui", "obo.v1.ctl.middleware." + i + ".ui." + id, "obo.v1.ctl.middleware." + i + ".ui", "obo.v1.req.middleware." + i + ".ui." + id,
	} {
		m := captured.Altered(func(m *hostile.Message) {
			m.Way, m.Subject = hostile.Down, subject
			m.SID = subscription(t, o.w.door)
		})
		o.refused(1, func() { o.w.door.Send(m) }, o.w)
	}
	if n := o.ran.all(); n != 0 {
		t.Fatalf("executed %d times", n)
	}
	o.refused(1, func() { o.deliver(captured.Msg, o.w); o.deliver(captured.Msg, o.w) }, o.w)
	o.log.Wait(t, "msg=request ", "path=/once")
}

// subscription is the worker's one for requests.
func subscription(t *testing.T, d *hostile.Door) string {
	t.Helper()
	for line := range strings.Lines(string(d.Spoken())) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "SUB" && strings.HasPrefix(fields[1], "obo.v1.*.") {
			return fields[2]
		}
	}
	t.Fatal("the worker has not subscribed")
	return ""
}

// What the server denies such a user, with the permissions that obo init generates.
func TestOutsiderIsDenied(t *testing.T) {
	o := newOutside(t, http.HandlerFunc(namesItself))
	client := o.publisher(nil)
	send(t, client, "POST", "/once").want(t, 200, "answer to /once")
	captured := o.app.Wait("the request", 1, ofFirst)
	control := o.subjects.Control(relaytest.Service, o.w.Instance(), relaytest.App, o.subjects.Parse(captured.Reply).ID)
	for name, try := range map[string]func(*nats.Conn) error{
		"replay":            func(nc *nats.Conn) error { return nc.PublishMsg(captured.Msg) },
		"control":           func(nc *nats.Conn) error { return nc.Publish(control, nil) },
		"answer":            func(nc *nats.Conn) error { return nc.Publish(captured.Reply, relay.UnsealedRefusal(relay.CodeRefused)) },
		"announce":          func(nc *nats.Conn) error { return nc.Publish("obo.v1.announce.middleware", nil) },
		"listen to replies": func(nc *nats.Conn) error { _, err := nc.SubscribeSync("obo.v1.rep.ui.>"); return err },
		"listen to requests": func(nc *nats.Conn) error {
			_, err := nc.SubscribeSync("obo.v1.req.>")
			return err
		},
		"steal requests": func(nc *nats.Conn) error {
			_, err := nc.QueueSubscribeSync("obo.v1.*.middleware."+o.w.Instance()+".>", "q")
			return err
		},
		"listen to all": func(nc *nats.Conn) error { _, err := nc.SubscribeSync(">"); return err },
	} {
		nc := o.Connect(o.batch)
		relaytest.Must(t, try(nc))
		relaytest.Must(t, nc.FlushTimeout(relaytest.Patience))
		if err := nc.LastError(); !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := o.ran.all(); n != 1 {
		t.Errorf("executed %d times", n)
	}
}
