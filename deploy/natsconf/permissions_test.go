package natsconf_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
)

type act string

const (
	pub  act = "publish"
	sub  act = "subscribe"
	join act = "join queue group"
)

type move struct {
	user    string
	act     act
	subject string
	allowed bool
}

// moves are what each user may and may not do; everything here that is not allowed is an attack or a mistake.
func moves() []move {
	const yes, no = true, false
	return []move{
		// An app sends its requests and receives its replies.
		{ui, pub, "obo.v1.discover.middleware", yes},
		{ui, pub, "obo.v1.req.middleware.i1.ui", yes},
		{ui, pub, "obo.v1.ctl.middleware.i1.ui.id1", yes},
		{ui, sub, "obo.v1.announce.middleware", yes},
		{ui, sub, "obo.v1.rep.ui.r1.*", yes},
		{batch, pub, "obo.v1.req.billing.i1.batch", yes},
		{billingApp, pub, "obo.v1.req.middleware.i1.billing", yes},
		// An app poses as another app, or calls what it may not.
		{ui, pub, "obo.v1.req.middleware.i1.batch", no},
		{ui, pub, "obo.v1.ctl.middleware.i1.batch.id1", no},
		{ui, pub, "obo.v1.req.billing.i1.ui", no},
		{ui, pub, "obo.v1.discover.billing", no},
		{ui, pub, "obo.v1.req.middleware.i1.ui.more", no},
		{ui, pub, "obo.v1.req.middleware.i1", no},
		{ui, pub, "other.obo.v1.req.middleware.i1.ui", no},
		// An app reads what others send or receive.
		{ui, sub, "obo.v1.rep.batch.*.*", no},
		{ui, sub, "obo.v1.rep.*.*.*", no},
		{ui, sub, "obo.v1.rep.>", no},
		{ui, sub, "obo.v1.announce.billing", no},
		{ui, sub, "obo.v1.announce.*", no},
		{ui, sub, "obo.v1.req.middleware.*.ui", no},
		{ui, sub, "obo.v1.>", no},
		{ui, sub, ">", no},
		{ui, sub, "_INBOX.>", no},
		{ui, sub, "_INBOX.inspector.>", no},
		{ui, join, ">", no},
		{ui, join, "obo.v1.req.middleware.>", no},
		// An app poses as a worker: announcement, reply, micro answer, micro service.
		{ui, pub, "obo.v1.announce.middleware", no},
		{ui, pub, "obo.v1.rep.ui.r1.id1", no},
		{ui, pub, "obo.v1.rep.batch.r1.id1", no},
		{ui, pub, "_INBOX.inspector.x", no},
		{ui, pub, "_INBOX.inspector.x.y", no},
		{ui, sub, "$SRV.PING", no},
		{ui, sub, "$SRV.PING.obo-middleware", no},
		{ui, sub, "obo.v1.discover.middleware", no},
		// An app reaches for the server.
		{ui, pub, "$SRV.PING", no},
		{ui, pub, "$JS.API.INFO", no},
		{ui, pub, "$JS.API.STREAM.CREATE.S", no},
		{ui, pub, "$JS.ACK.S.C.1.1.1.1.0", no},
		{ui, pub, "$SYS.REQ.SERVER.PING", no},
		{ui, pub, "$SYS.REQ.USER.INFO", no},
		{ui, pub, "$SYS.REQ.ACCOUNT.PING.CONNZ", no},
		{ui, sub, "$SYS.>", no},
		{ui, pub, "$SYS.REQ.SERVER.NID.RELOAD", no},
		{ui, pub, "$SYS.REQ.CLAIMS.UPDATE", no},
		{ui, pub, "$SYS.ACCOUNT.OBO.CONNECT", no},
		{ui, pub, "$JS.API.STREAM.PURGE.AUDIT", no},
		{ui, pub, "$JS.API.CONSUMER.MSG.NEXT.AUDIT.c", no},
		{ui, pub, "$KV.bucket.key", no},
		{ui, pub, "$O.bucket.C.chunk", no},
		// An app forges a micro service: its answers, its questions to others, its control subjects.
		{ui, pub, "$SRV.INFO.obo-middleware", no},
		{ui, pub, "$SRV.STATS.obo-middleware.i1", no},
		{ui, sub, "$SRV.INFO", no},
		{ui, sub, "$SRV.STATS.obo-middleware.i1", no},
		{ui, sub, "$SRV.>", no},
		{ui, join, "$SRV.PING", no},
		// An app steals through a queue group what is not its own.
		{ui, join, "obo.v1.>", no},
		{ui, join, "obo.v1.req.middleware.i1.ui", no},
		{ui, join, "obo.v1.rep.batch.r1.*", no},
		{ui, join, "obo.v1.rep.*.*.*", no},
		{ui, join, "obo.v1.discover.middleware", no},
		{batch, join, "obo.v1.announce.middleware", no},
		{batch, pub, "obo.v1.req.middleware.i1.ui", no},
		{batch, sub, "obo.v1.rep.ui.r1.*", no},
		// What is an app's own it may also share: whoever has its key is the app. The same holds for the workers of a service.
		{ui, join, "obo.v1.rep.ui.r1.*", yes},
		{middleware, join, "obo.v1.*.middleware.i1.>", yes},

		// A service receives its requests and answers its apps.
		{middleware, sub, "obo.v1.*.middleware.i1.>", yes},
		{middleware, sub, "obo.v1.discover.middleware", yes},
		{middleware, sub, "$SRV.PING", yes},
		{middleware, sub, "$SRV.INFO", yes},
		{middleware, sub, "$SRV.STATS", yes},
		{middleware, sub, "$SRV.STATS.obo-middleware", yes},
		{middleware, sub, "$SRV.INFO.obo-middleware.i1", yes},
		{middleware, pub, "obo.v1.announce.middleware", yes},
		{middleware, pub, "obo.v1.rep.ui.r1.id1", yes},
		{middleware, pub, "obo.v1.rep.billing.r1.id1", yes},
		{middleware, pub, "_INBOX.inspector.x.y", yes},
		{billing, sub, "obo.v1.*.billing.i1.>", yes},
		// A service takes another's requests, or those of all.
		{middleware, sub, "obo.v1.*.billing.i1.>", no},
		{middleware, sub, "obo.v1.*.*.i1.>", no},
		{middleware, sub, "obo.v1.*.middleware.>", no},
		{middleware, sub, "obo.v1.req.>", no},
		{middleware, sub, "obo.v1.rep.ui.>", no},
		{middleware, sub, "obo.v1.discover.billing", no},
		{middleware, sub, "obo.v1.announce.middleware", no},
		{middleware, sub, "obo.v1.>", no},
		{middleware, sub, ">", no},
		{middleware, join, ">", no},
		{middleware, sub, "_INBOX.inspector.>", no},
		{middleware, sub, "$SRV.PING.obo-billing", no},
		{middleware, sub, "$SRV.>", no},
		{middleware, sub, "$SYS.>", no},
		{billing, sub, "obo.v1.rep.billing.r1.*", no},
		// A service answers for another, calls another, or reaches for other inboxes and the server.
		{middleware, pub, "obo.v1.announce.billing", no},
		{middleware, pub, "obo.v1.rep.batch.r1.id1", no},
		{middleware, pub, "obo.v1.rep.ui.r1.id1.more", no},
		{middleware, pub, "obo.v1.req.billing.i1.middleware", no},
		{middleware, pub, "obo.v1.req.billing.i1.batch", no},
		{middleware, pub, "obo.v1.req.middleware.i1.ui", no},
		{middleware, pub, "obo.v1.ctl.middleware.i1.ui.id1", no},
		{middleware, pub, "obo.v1.discover.middleware", no},
		{middleware, pub, "_INBOX.someone", no},
		{middleware, pub, "_INBOX.system.x", no},
		{middleware, pub, "$SRV.PING", no},
		{middleware, pub, "$JS.API.STREAM.PURGE.S", no},
		{middleware, pub, "$JS.API.INFO", no},
		{middleware, pub, "$SYS.REQ.USER.INFO", no},
		{middleware, pub, "$SYS.REQ.SERVER.PING", no},
		{middleware, pub, "$SRV.INFO.obo-billing", no},
		{middleware, pub, "$JS.API.STREAM.CREATE.S", no},
		{middleware, pub, "$JS.ACK.S.C.1.1.1.1.0", no},
		{middleware, pub, "obo.v1.rep.billing", no},
		{middleware, pub, "obo.v1.rep.>", no},
		{middleware, pub, "_INBOX.auditor.x", no},
		{middleware, pub, "_INBOX.obo-audit.billing.i1.1", no},
		{middleware, sub, "_INBOX.>", no},
		{middleware, sub, "_INBOX.system.x", no},
		// A service steals through a queue group.
		{middleware, join, "obo.v1.>", no},
		{middleware, join, "obo.v1.*.billing.i1.>", no},
		{middleware, join, "obo.v1.*.*.i1.>", no},
		{middleware, join, "obo.v1.req.billing.i1.batch", no},
		{middleware, join, "obo.v1.rep.ui.r1.*", no},
		{middleware, join, "obo.v1.announce.middleware", no},
		{billing, join, "obo.v1.*.middleware.i1.>", no},
		{billing, join, "obo.v1.rep.billing.r1.*", no},

		// The inspector looks on.
		{inspector, sub, ">", yes},
		{inspector, sub, "obo.v1.>", yes},
		{inspector, sub, "obo.v1.req.middleware.i1.ui", yes},
		{inspector, sub, "_INBOX.inspector.x", yes},
		{inspector, pub, "$SRV.PING", yes},
		{inspector, pub, "$SRV.INFO.obo-middleware", yes},
		{inspector, pub, "$SRV.STATS.obo-middleware.i1", yes},
		{inspector, pub, "obo.v1.discover.middleware", yes},
		{inspector, pub, "$JS.API.INFO", yes},
		{inspector, pub, "$JS.API.STREAM.LIST", yes},
		{inspector, pub, "$JS.API.STREAM.INFO.S", yes},
		{inspector, pub, "$JS.API.CONSUMER.LIST.S", yes},
		// The inspector steals.
		{inspector, join, ">", no},
		{inspector, join, "obo.v1.>", no},
		{inspector, join, "obo.v1.*.middleware.i1.>", no},
		{inspector, join, "obo.v1.req.middleware.i1.ui", no},
		{inspector, join, "obo.v1.rep.ui.r1.*", no},
		{inspector, join, "$SRV.PING", no},
		{inspector, join, "_INBOX.inspector.x", no},
		// The inspector speaks.
		{inspector, pub, "obo.v1.req.middleware.i1.ui", no},
		{inspector, pub, "obo.v1.ctl.middleware.i1.ui.id1", no},
		{inspector, pub, "obo.v1.rep.ui.r1.id1", no},
		{inspector, pub, "obo.v1.announce.middleware", no},
		{inspector, pub, "obo.v1.discover.middleware.i1", no},
		{inspector, pub, "_INBOX.inspector.x", no},
		{inspector, pub, "_INBOX.someone", no},
		{inspector, pub, "$SRV.RESET", no},
		{inspector, pub, "$JS.API.STREAM.CREATE.S", no},
		{inspector, pub, "$JS.API.STREAM.DELETE.S", no},
		{inspector, pub, "$JS.API.STREAM.PURGE.S", no},
		{inspector, pub, "$JS.API.STREAM.MSG.GET.S", no},
		{inspector, pub, "$JS.API.STREAM.MSG.DELETE.S", no},
		{inspector, pub, "$JS.API.STREAM.SNAPSHOT.S", no},
		{inspector, pub, "$JS.API.DIRECT.GET.S", no},
		{inspector, pub, "$JS.API.DIRECT.GET.S.obo.v1.req.middleware.i1.ui", no},
		{inspector, pub, "$JS.API.CONSUMER.CREATE.S", no},
		{inspector, pub, "$JS.API.CONSUMER.MSG.NEXT.S.C", no},
		{inspector, pub, "$SYS.REQ.SERVER.PING", no},

		// The system user looks at the server.
		{system, pub, "$SYS.REQ.SERVER.PING", yes},
		{system, pub, "$SYS.REQ.SERVER.PING.CONNZ", yes},
		{system, pub, "$SYS.REQ.SERVER.NID.VARZ", yes},
		{system, pub, "$SYS.REQ.ACCOUNT.OBO.CONNZ", yes},
		{system, sub, "_INBOX.system.x", yes},
		{system, sub, "$SYS.ACCOUNT.>", yes},
		{system, pub, "$SYS.REQ.SERVER.NID.RELOAD", no},
		{system, pub, "$SYS.REQ.SERVER.NID.KICK", no},
		{system, pub, "$SYS.REQ.SERVER.NID.LDM", no},
		{system, pub, "$SYS.REQ.SERVER.PING.PROFILEZ", no},
		{system, pub, "$SYS.REQ.CLAIMS.UPDATE", no},
		{system, pub, "obo.v1.req.middleware.i1.ui", no},
		{system, sub, "$SYS.REQ.>", no},
		{system, sub, "obo.v1.>", no},
		{system, sub, ">", no},
		{system, join, "obo.v1.>", no},
		{system, pub, "$JS.API.STREAM.LIST", no},
		{system, pub, "_INBOX.system.x", no},
	}
}

// auditMoves are those around the audit stream.
func auditMoves() []move {
	const yes, no = true, false
	return []move{
		// A service keeps its own records and hears that they are stored.
		{middleware, pub, "obo.audit.middleware", yes},
		{middleware, sub, "_INBOX.obo-audit.middleware.i1.*", yes},
		{billing, pub, "obo.audit.billing", yes},
		// A service keeps another's records, or reads.
		{middleware, pub, "obo.audit.billing", no},
		{middleware, pub, "obo.audit.middleware.more", no},
		{middleware, sub, "obo.audit.middleware", no},
		{middleware, sub, "_INBOX.obo-audit.billing.i1.*", no},
		{middleware, sub, "_INBOX.obo-audit.>", no},
		{middleware, sub, "_INBOX.auditor.x", no},
		{middleware, pub, "_INBOX.auditor.x", no},
		{middleware, pub, "$JS.API.STREAM.INFO.AUDIT", no},
		{middleware, pub, "$JS.API.STREAM.CREATE.AUDIT", no},
		{middleware, pub, "$JS.API.STREAM.MSG.GET.AUDIT", no},
		{middleware, pub, "$JS.API.STREAM.PURGE.AUDIT", no},
		// An app and the inspector gain nothing.
		{ui, pub, "obo.audit.ui", no},
		{ui, pub, "obo.audit.middleware", no},
		{ui, sub, "obo.audit.middleware", no},
		{ui, sub, "_INBOX.obo-audit.middleware.>", no},
		{ui, sub, "_INBOX.auditor.>", no},
		{ui, pub, "$JS.API.STREAM.INFO.AUDIT", no},
		{ui, pub, "$JS.API.STREAM.MSG.GET.AUDIT", no},
		{billingApp, pub, "obo.audit.billing", no},
		{inspector, pub, "obo.audit.middleware", no},
		{inspector, sub, "obo.audit.middleware", no},
		{inspector, sub, "obo.audit.>", no},
		{inspector, sub, "_INBOX.auditor.x", no},
		{inspector, pub, "$JS.API.STREAM.CREATE.AUDIT", no},
		{inspector, pub, "$JS.API.STREAM.MSG.GET.AUDIT", no},
		{inspector, pub, "$JS.API.DIRECT.GET.AUDIT", no},
		{inspector, pub, "$JS.API.CONSUMER.CREATE.AUDIT.c.>", no},
		{system, pub, "$JS.API.STREAM.MSG.GET.AUDIT", no},
		// The auditor makes the stream and reads it.
		{auditor, pub, "$JS.API.INFO", yes},
		{auditor, pub, "$JS.API.STREAM.LIST", yes},
		{auditor, pub, "$JS.API.STREAM.CREATE.AUDIT", yes},
		{auditor, pub, "$JS.API.STREAM.INFO.AUDIT", yes},
		{auditor, pub, "$JS.API.STREAM.MSG.GET.AUDIT", yes},
		{auditor, pub, "$JS.API.CONSUMER.CREATE.AUDIT.c.>", yes},
		{auditor, pub, "$JS.API.CONSUMER.CREATE.AUDIT.c.obo.audit.middleware", yes},
		{auditor, pub, "$JS.API.CONSUMER.MSG.NEXT.AUDIT.c", yes},
		{auditor, pub, "$JS.API.CONSUMER.DELETE.AUDIT.c", yes},
		{auditor, pub, "$JS.ACK.AUDIT.c.1.1.1.1.0", yes},
		{auditor, sub, "_INBOX.auditor.x", yes},
		// The auditor changes the stream, or reaches for another.
		{auditor, pub, "$JS.API.STREAM.UPDATE.AUDIT", no},
		{auditor, pub, "$JS.API.STREAM.DELETE.AUDIT", no},
		{auditor, pub, "$JS.API.STREAM.PURGE.AUDIT", no},
		{auditor, pub, "$JS.API.STREAM.MSG.DELETE.AUDIT", no},
		{auditor, pub, "$JS.API.STREAM.SNAPSHOT.AUDIT", no},
		{auditor, pub, "$JS.API.STREAM.RESTORE.AUDIT", no},
		{auditor, pub, "$JS.API.DIRECT.GET.AUDIT", no},
		{auditor, pub, "$JS.API.CONSUMER.DURABLE.CREATE.AUDIT.c", no},
		{auditor, pub, "$JS.API.STREAM.CREATE.S", no},
		{auditor, pub, "$JS.API.STREAM.INFO.S", no},
		{auditor, pub, "$JS.API.STREAM.MSG.GET.S", no},
		{auditor, pub, "$JS.API.CONSUMER.CREATE.S.c.>", no},
		{auditor, pub, "$JS.API.CONSUMER.MSG.NEXT.S.c", no},
		{auditor, pub, "$JS.ACK.S.c.1.1.1.1.0", no},
		// The auditor speaks, or listens to the relay.
		{auditor, pub, "obo.audit.middleware", no},
		{auditor, pub, "obo.v1.req.middleware.i1.ui", no},
		{auditor, pub, "obo.v1.ctl.middleware.i1.ui.id1", no},
		{auditor, pub, "obo.v1.rep.ui.r1.id1", no},
		{auditor, pub, "obo.v1.announce.middleware", no},
		{auditor, pub, "obo.v1.discover.middleware", no},
		{auditor, pub, "_INBOX.auditor.x", no},
		{auditor, pub, "_INBOX.obo-audit.middleware.i1.1", no},
		{auditor, pub, "$SRV.PING", no},
		{auditor, pub, "$SYS.REQ.SERVER.PING", no},
		{auditor, sub, "obo.v1.>", no},
		{auditor, sub, "obo.v1.req.middleware.i1.ui", no},
		{auditor, sub, "obo.audit.>", no},
		{auditor, sub, "_INBOX.inspector.x", no},
		{auditor, sub, "_INBOX.obo-audit.middleware.>", no},
		{auditor, sub, "$SYS.>", no},
		{auditor, sub, ">", no},
		{auditor, join, "obo.v1.>", no},
	}
}

func TestMoves(t *testing.T) {
	t.Parallel()
	start(t, nil).try(t, append(moves(),
		move{middleware, pub, "obo.audit.middleware", false},
		move{middleware, sub, "_INBOX.obo-audit.middleware.i1.*", false}))
}

func TestMovesWithAudit(t *testing.T) {
	t.Parallel()
	startAudit(t).try(t, append(moves(), auditMoves()...))
}

func (f *fixture) try(t *testing.T, list []move) {
	t.Helper()
	witness := f.connect(t, root)
	seen := subscribe(t, witness, ">")
	for _, m := range list {
		t.Run(m.user+" "+string(m.act)+" "+m.subject, func(t *testing.T) {
			nc := f.connect(t, m.user)
			var err error
			switch m.act {
			case pub:
				err = publish(t, nc, &nats.Msg{Subject: m.subject, Data: []byte("move")})
			case sub:
				_, _ = nc.SubscribeSync(m.subject)
				roundTrip(t, nc)
				err = nc.LastError()
			case join:
				_, _ = nc.QueueSubscribeSync(m.subject, "q")
				roundTrip(t, nc)
				err = nc.LastError()
			}
			if m.allowed && err != nil {
				t.Errorf("refused: %v", err)
			}
			if !m.allowed && !errors.Is(err, nats.ErrPermissionViolation) {
				t.Errorf("not refused, error is %v", err)
			}
			if m.act == pub && m.user != system {
				wantArrival(t, witness, seen, m.subject, m.allowed)
			}
		})
	}
}

// wantArrival says whether the witness got the message. The marker is published after the server has processed the
// move, so that whatever comes before the marker is the move's.
func wantArrival(t *testing.T, witness *nats.Conn, seen *nats.Subscription, subject string, want bool) {
	t.Helper()
	const marker = "witness.marker"
	if err := witness.Publish(marker, nil); err != nil {
		t.Fatal(err)
	}
	arrived := false
	for {
		msg := receive(t, seen)
		if msg.Subject == marker {
			break
		}
		arrived = arrived || (msg.Subject == subject && string(msg.Data) == "move")
	}
	if arrived != want {
		t.Errorf("message arrived: %v, want %v", arrived, want)
	}
}

func TestPrefixSeparatesEnvironments(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *natsconf.Config) { c.SubjectPrefix = "team.prod" })
	for subject, allowed := range map[string]bool{
		"team.prod.obo.v1.req.middleware.i1.ui": true,
		"team.prod.obo.v1.discover.middleware":  true,
		"team.test.obo.v1.req.middleware.i1.ui": false,
		"obo.v1.req.middleware.i1.ui":           false,
	} {
		err := publish(t, f.connect(t, ui), nats.NewMsg(subject))
		if refused := errors.Is(err, nats.ErrPermissionViolation); refused == allowed {
			t.Errorf("%s: allowed %v, error %v", subject, allowed, err)
		}
	}
}

func TestStrangersStayOut(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	stranger := newUser(t)
	for name, opts := range map[string][]nats.Option{
		"no credentials":                   nil,
		"unknown nkey":                     {nats.Nkey(stranger.public, stranger.pair.Sign)},
		"known nkey, signature of another": {nats.Nkey(f.users[inspector].public, stranger.pair.Sign)},
		"password":                         {nats.UserInfo("OBO", "OBO")},
		"token":                            {nats.Token("OBO")},
	} {
		nc, err := nats.Connect(f.server.ClientURL(), opts...)
		if err == nil {
			nc.Close()
		}
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v, want an authorization violation", name, err)
		}
	}
}
