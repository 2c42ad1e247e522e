package main

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
)

// What is known of this request counts, where it is more than what the table says of the code.
func TestCallTellsTheRequestsOwnOutcome(t *testing.T) {
	e := relay.NewError(relay.CodeBodyTooLarge, "half of it was read")
	for outcome, want := range map[relay.Outcome]string{"": "not_delivered", relay.Unknown: "unknown", relay.NotStarted: "not_started"} {
		e.Outcome = outcome
		if got := withRemedy(e, relay.ConnectConfig{}).Error(); !strings.Contains(got, "what the caller knows: "+want+"\n") {
			t.Errorf("outcome %q: %s", outcome, got)
		}
	}
}

// A NATS server that takes connections and says nothing, as one that waits for TLS, does not keep it from being stopped.
func TestCallIsInterruptedWhileItConnects(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(t, err)
	defer silent.Close()
	made, err := setup.Init(setup.Config{Dir: t.TempDir(), NATSURL: "nats://" + silent.Addr().String(), Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"}})
	relaytest.Must(t, err)
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		args := []string{"call", "--kit-file", made.Side(relay.RoleApp, "ui").KitFile, "--opaque-tokens", "middleware", "/"}
		ended <- run(ctx, args, strings.NewReader("dapi1"), io.Discard, io.Discard)
	}()
	conn, err := silent.Accept()
	relaytest.Must(t, err)
	defer conn.Close() // by now it would be over
	interrupt()
	begin := time.Now()
	if code := <-ended; code != 1 {
		t.Error(code)
	}
	if took := time.Since(begin); took > 4*time.Second { // nats.go gives up after 5
		t.Errorf("took %v", took)
	}
}
