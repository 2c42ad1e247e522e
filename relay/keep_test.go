package relay

import (
	"log/slog"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A message over a max_payload that was lowered meanwhile is an error for which nats.go gives its connection up. There is another
// one then, which hears what the first heard, before it is told that it is up.
func TestKeepOutlivesAnUnknownError(t *testing.T) {
	opts := server.Options{Host: "127.0.0.1", Port: freePort(t), NoLog: true, NoSigs: true, MaxPayload: 1 << 20}
	s := natsServer(t, opts)
	got, up := make(chan *nats.Msg, 10), make(chan struct{}, 10)
	log := &logText{more: make(chan struct{}, 1)}
	k, err := Keep(ConnectConfig{URL: s.ClientURL(), Log: slog.New(slog.NewTextHandler(log, nil)), OnUp: func() { up <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.Subscribe("x", func(m *nats.Msg) { got <- m }, 100, 1<<20); err != nil {
		t.Fatal(err)
	}
	await(t, up)
	first := k.NATS()
	lower := opts
	lower.MaxPayload = 64 << 10
	if err := s.ReloadOptions(&lower); err != nil {
		t.Fatal(err)
	}
	if err := first.Publish("x", make([]byte, 100<<10)); err != nil {
		t.Fatal(err)
	}
	log.await(t, "the NATS server ended the connection")
	await(t, up)
	second := k.NATS()
	if second == first || !second.IsConnected() || second.MaxPayload() != 64<<10 {
		t.Fatalf("the same connection %v, connected %v, max_payload %d", second == first, second.IsConnected(), second.MaxPayload())
	}
	if err := second.Publish("x", []byte("again")); err != nil {
		t.Fatal(err)
	}
	if m := await(t, got); string(m.Data) != "again" {
		t.Errorf("%q came", m.Data)
	}
}

// Closed while another connection is made, it does not keep that.
func TestKeepIsClosedForGood(t *testing.T) {
	s := natsServer(t, server.Options{})
	k, err := Keep(ConnectConfig{URL: s.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	if err := k.open(); err != nil || !k.NATS().IsClosed() {
		t.Errorf("%v, closed %v", err, k.NATS().IsClosed())
	}
}
