package main

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

// net/http answers OPTIONS * by itself where it may: then nobody would have been asked (PROTOCOL.md §9).
func TestOptionsOfTheWholeServerReachTheHandler(t *testing.T) {
	p := &process{routes: []*route{{service: "middleware"}}, log: slog.New(slog.DiscardHandler)}
	servers, err := p.servers()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = servers[0].Serve(listener) }()
	defer servers[0].Close()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if want := relay.CodeNotConfigured.Info().Status; resp.StatusCode != want { // of a publisher without a relay
		t.Errorf("%s, want %d", resp.Status, want)
	}
}
