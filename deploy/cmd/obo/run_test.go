package main

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
)

// What a server says is shown, and steers no terminal.
func TestServersTextIsHarmless(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("INFO {\"max_payload\":1048576,\"nonce\":\"n\"}\r\n-ERR 'go away \x1b]0;title\x07'\r\n"))
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, _ = conn.Read(make([]byte, 1<<16))
			_ = conn.Close()
		}
	}()
	made, err := setup.Init(setup.Config{Dir: t.TempDir(), NATSURL: "nats://" + listener.Addr().String(), Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"}})
	relaytest.Must(t, err)
	var stderr strings.Builder
	kit := made.Side(relay.RoleApp, "ui").KitFile
	if code := run(t.Context(), []string{"call", "--kit-file", kit, "--opaque-tokens", "middleware", "/"}, strings.NewReader("dapi1"), &stderr, &stderr); code != 1 {
		t.Error(code)
	}
	if text := stderr.String(); !strings.Contains(text, "go away") || strings.ContainsAny(text, "\x1b\x07") {
		t.Errorf("%q", text)
	}
}
