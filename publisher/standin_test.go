package publisher

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// standIn is a worker made of relay's parts alone, so that it can say under seal what the real one never would.
type standIn struct {
	url      string
	nc       *nats.Conn
	identity relay.Identity // of the service

	mu      sync.Mutex // held while a message is taken in, so that nothing goes on after the test
	over    bool
	streams map[relay.ID]*relay.Stream
	grants  map[relay.GrantHash]*relay.Grant
	serve   func(s *relay.Stream) // a new request; called in the subscription, before any later frame
}

func startNATS(t *testing.T) string {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	return srv.ClientURL()
}

// newStandIn starts a NATS server, a transport of the app ui, and a stand-in of the service middleware that serves its requests.
func newStandIn(t *testing.T, change func(*Config), serve func(*relay.Stream)) (*standIn, *Transport) {
	t.Helper()
	w := &standIn{url: startNATS(t), streams: map[relay.ID]*relay.Stream{}, grants: map[relay.GrantHash]*relay.Grant{}, serve: serve}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ui, middleware := relay.NewIdentity(), relay.NewIdentity()
	w.identity = middleware
	trust, err := (relay.TrustFile{
		Type: relay.TrustTypeName, Apps: map[string]relay.JWKS{"ui": {Keys: []relay.JWK{ui.Public()}}},
		Services: map[string]relay.JWKS{"middleware": {Keys: []relay.JWK{middleware.Public()}}},
	}).Trust()
	must(err)
	w.nc, err = relay.ConnectOnce(relay.ConnectConfig{URL: w.url})
	must(err)
	t.Cleanup(w.close)
	said := newTestWorker(t, middleware, time.Hour, time.Now())
	opener := &relay.Opener{Service: "middleware", Trust: trust, Key: func(kid string) *relay.InstanceKey { return said.key }}
	subjects, err := relay.NewSubjects("")
	must(err)
	_, err = w.nc.Subscribe(subjects.Worker("middleware", said.said.Instance), func(m *nats.Msg) { w.receive(t, subjects, opener, m) })
	must(err)
	_, err = w.nc.Subscribe(subjects.Discover("middleware"), func(*nats.Msg) {
		_ = w.nc.Publish(subjects.Announce("middleware"), said.announces(time.Now()))
	})
	must(err)
	must(w.nc.Flush())

	cfg := Config{App: "ui", Identity: ui, Trust: trust, NATS: relay.ConnectConfig{URL: w.url}, Log: slog.New(slog.DiscardHandler), ConnectWait: time.Minute, DiscoverWait: time.Minute}
	if change != nil {
		change(&cfg)
	}
	transport, err := New(cfg)
	must(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- transport.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return w, transport
}

func (w *standIn) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	for _, s := range w.streams {
		s.Close()
	}
	w.nc.Close()
}

func (w *standIn) receive(t *testing.T, subjects relay.Subjects, opener *relay.Opener, m *nats.Msg) {
	addr := subjects.Parse(m.Subject)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	s := w.streams[addr.ID]
	if addr.Kind == relay.KindControl {
		if s != nil {
			_ = s.Deliver(m.Data)
		}
		return
	}
	reply := subjects.Parse(m.Reply)
	if w.streams[reply.ID] != nil {
		return // burned
	}
	sealed, hash, frame, err := relay.SplitRequest(m.Data)
	if err != nil {
		t.Error(err)
		return
	}
	grant := w.grants[hash]
	if grant == nil {
		if grant, err = opener.Open(string(sealed), addr.App, time.Now()); err != nil {
			t.Error(err)
			return
		}
		w.grants[hash] = grant
	}
	opened, err := grant.OpenRequest(reply.ID, frame)
	if err != nil {
		t.Error(err)
		return
	}
	control := subjects.Control(addr.Service, addr.Instance, addr.App, reply.ID)
	s = relay.NewStream(context.Background(), relay.StreamConfig{
		Role: relay.RoleService, ID: reply.ID, Grant: grant, Limit: relay.FrameLimit(w.nc.MaxPayload()), Budget: relay.NewBudget(0), Now: time.Now, Request: opened,
		Publish: func(b []byte, _ relay.FrameType, _ int) error {
			return w.nc.PublishMsg(&nats.Msg{Subject: m.Reply, Reply: control, Data: b})
		},
	})
	w.streams[reply.ID] = s
	w.serve(s)
}

// saying is a head in JSON.
func saying(t *testing.T, head relay.ReplyHead) []byte {
	t.Helper()
	head.Header = http.Header{}
	b, err := relay.EncodeHead(&head)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func relayed(t *testing.T, method string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://middleware/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(relay.HeaderAccessToken, testJWT("alice", time.Now().Add(time.Hour)))
	return r
}
