package relaytest

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// RawApp is an app without a publisher: it makes messages and does not send them, so that a test can alter them first.
type RawApp struct {
	n        *Net
	Tap      *Tap // of the whole relay, as Root
	Subjects relay.Subjects
	Inbox    relay.ID
}

// RawApp returns an app that listens to everything.
func (n *Net) RawApp() *RawApp {
	n.tb.Helper()
	subjects, err := relay.NewSubjects("")
	Must(n.tb, err)
	return &RawApp{n: n, Tap: n.Tap(n.Root, "obo.v1.>"), Subjects: subjects, Inbox: relay.NewID()}
}

// Worker returns the newest announcement of an instance, after one asked for now.
func (a *RawApp) Worker(instance string) *relay.Announcement {
	a.n.tb.Helper()
	for next := 1; ; next++ {
		Must(a.n.tb, a.Tap.Conn.Publish(a.Subjects.Discover(Service), nil))
		m := a.Tap.Wait(".announce.", next)
		if said, err := a.n.Trust.VerifyAnnouncement(Service, m.Data, time.Now()); err == nil && said.Instance == instance {
			return said
		}
	}
}

// Grant seals a token to an announced key.
func (a *RawApp) Grant(to *relay.Announcement, token string) (*relay.Grant, string) {
	a.n.tb.Helper()
	t, err := relay.NewToken(token)
	Must(a.n.tb, err)
	grant, compact, err := relay.SealGrant(a.n.AppID, App, to, t, time.Now())
	Must(a.n.tb, err)
	return grant, compact
}

// Request makes the message of a small request, with changes to its head. It sends nothing.
func (a *RawApp) Request(to *relay.Announcement, grant *relay.Grant, compact string, id relay.ID, change func(*relay.RequestHead)) *nats.Msg {
	a.n.tb.Helper()
	head := &relay.RequestHead{
		Method: "POST", Path: "/do", Header: map[string][]string{}, IssuedAt: time.Now().UnixMilli(), TimeoutMS: 30_000,
		Subject: a.Subjects.Request(Service, to.Instance, App), Reply: a.Subjects.Reply(App, a.Inbox, id),
	}
	if change != nil {
		change(head)
	}
	m := &nats.Msg{Subject: head.Subject, Reply: head.Reply, Header: relay.HintsFull.Request(id, head)}
	s := NewRawStream(a.n.tb, grant, id, func(b []byte) { m.Data = append([]byte(nil), b...) })
	s.SetGrant([]byte(compact))
	encoded, err := relay.EncodeHead(head)
	Must(a.n.tb, err)
	Must(a.n.tb, s.SendHead(encoded, nil, true, 0))
	return m
}

// NewRawStream is a publisher's stream whose payloads go to a function.
func NewRawStream(tb testing.TB, grant *relay.Grant, id relay.ID, send func([]byte)) *relay.Stream {
	s := relay.NewStream(context.Background(), relay.StreamConfig{
		Role: relay.RoleApp, ID: id, Grant: grant, Limit: relay.MaxFrame, Budget: relay.NewBudget(1 << 20), Now: time.Now,
		Publish: func(b []byte, _ relay.FrameType, _ int) error { send(b); return nil },
	})
	tb.Cleanup(s.Close)
	return s
}

// Instance is the instance that a subject of a request names.
func (a *RawApp) Instance(subject string) string { return a.Subjects.Parse(subject).Instance }
