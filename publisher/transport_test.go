package publisher

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/obo-relay/obo-relay/relay"
)

// Trust that is replaced while Run begins is not lost: the workers of a service that it adds are listened to.
func TestTrustComesWhileRunBegins(t *testing.T) {
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	id := relay.NewIdentity()
	cfg := Config{
		App: "ui", Identity: relay.NewIdentity(), Trust: trustOf(t, map[string]relay.Identity{"middleware": id}),
		NATS: relay.ConnectConfig{URL: srv.ClientURL()},
	}
	transport, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := relay.Keep(cfg.NATS)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if err := transport.subscribe(nc); err != nil {
		t.Fatal(err)
	}
	transport.SetTrust(trustOf(t, map[string]relay.Identity{"middleware": id, "billing": id}))
	if err := transport.begin(nc); err != nil {
		t.Fatal(err)
	}
	if !transport.watched["billing"] {
		t.Error("nobody listens to the workers of the service that was added")
	}
}

// A connection that nats.go has given up is not the end: requests wait for the next one, and find their replies there.
func TestRequestsAfterAConnectionThatIsOver(t *testing.T) {
	_, transport := newStandIn(t, nil, func(s *relay.Stream) {
		_ = s.SendHead(saying(t, relay.ReplyHead{Status: 200}), nil, true, 200)
	})
	for range 2 {
		resp, err := transport.RoundTrip(relayed(t, "POST"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		transport.nc.NATS().Close()
	}
}

// A deadline that passes is the caller's own, as with net/http: its cause, too.
func TestDeadlineOfTheCaller(t *testing.T) {
	_, transport := newStandIn(t, nil, func(*relay.Stream) {})
	why := errors.New("why")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, why)
	defer cancel()
	_, err := transport.RoundTrip(relayed(t, "GET").WithContext(ctx))
	if !errors.Is(err, relay.CodeTimeout) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, why) {
		t.Error(err)
	}
}

// What is uploaded while another connection takes the place of one that is over arrives with that: the stream goes on.
func TestUploadGoesOnAfterAConnectionThatIsOver(t *testing.T) {
	began := make(chan struct{})
	head := saying(t, relay.ReplyHead{Status: 200})
	serve := func(s *relay.Stream) {
		if _, err := io.ReadFull(s, make([]byte, 4)); err != nil {
			t.Error(err)
		}
		close(began)
		rest, err := io.ReadAll(s)
		if err != nil || string(rest) != "rest" {
			t.Errorf("%q, %v", rest, err)
		}
		_ = s.SendHead(head, nil, true, 200)
	}
	_, transport := newStandIn(t, nil, func(s *relay.Stream) { go serve(s) })
	r := relayed(t, "POST")
	body, from := io.Pipe()
	r.Body, r.ContentLength = body, -1
	go func() {
		_, _ = io.WriteString(from, "half")
		<-began
		transport.nc.NATS().Close()
		_, _ = io.WriteString(from, "rest")
		_ = from.Close()
	}()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}
