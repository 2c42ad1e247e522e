package main

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// pipes is a listener on a bubble's clock: each connection that is put in is accepted.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A connection outlives the pools of clients that close idle ones by themselves, the longest after 90 s, and is closed in the end:
// it takes a file descriptor.
func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &process{routes: []*route{{service: "middleware"}}, log: slog.New(slog.DiscardHandler)}
		servers, err := p.servers()
		if err != nil {
			t.Fatal(err)
		}
		listener := make(pipes)
		go func() { _ = servers[0].Serve(listener) }()
		defer servers[0].Close()
		conn, end := net.Pipe()
		listener <- end
		answers := bufio.NewReader(conn)
		for used := range 3 {
			time.Sleep(time.Duration(used) * 91 * time.Second / 2) // on the bubble's clock; 91 s at last
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(answers, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
		}
		began := time.Now()
		if _, err := answers.ReadByte(); err != io.EOF {
			t.Errorf("%v, want the end", err)
		}
		if idle := time.Since(began); idle != idleTime {
			t.Errorf("closed after %v, want %v", idle, idleTime)
		}
	})
}

// A call that is broken off when the time to drain is over gets an answer that says so.
func TestWhoeverIsBrokenOffIsTold(t *testing.T) {
	entered, over := make(chan struct{}), make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-over
		w.WriteHeader(http.StatusBadGateway)
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	go func() {
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
		if err == nil {
			if _ = resp.Body.Close(); resp.StatusCode != http.StatusBadGateway {
				t.Error(resp.Status)
			}
		}
		told <- err
	}()
	<-entered
	shutdown([]*http.Server{server}, time.Millisecond, sync.OnceFunc(func() { close(over) }))
	if err := <-told; err != nil {
		t.Error(err)
	}
}
