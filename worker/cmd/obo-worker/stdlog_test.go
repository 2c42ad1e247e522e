package main

import (
	"bufio"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/worker"
)

type lineChan chan string

func (l lineChan) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// An app that answers HEAD with a body, or sends more than it said, has net/http log what it sent.
func TestReplyOutOfTurnIsNotLogged(t *testing.T) {
	flags, to := stdlog.Flags(), stdlog.Writer()
	t.Cleanup(func() { stdlog.SetFlags(flags); stdlog.SetOutput(to) })
	lines := make(lineChan, 8)
	log := slog.New(slog.NewTextHandler(lines, nil))
	tameStdlog(log)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		if _, err := http.ReadRequest(in); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nCANARY of Alice")
		}
		_, _ = in.ReadByte() // until the client closes
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	h, err := worker.Forward(&url.URL{Scheme: "http", Host: l.Addr().String()}, log)
	if err != nil {
		t.Fatal(err)
	}
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("HEAD", "/", nil))
	select {
	case line := <-lines:
		if strings.Contains(line, "CANARY") || !strings.Contains(line, "Unsolicited response") {
			t.Errorf("logged: %s", line)
		}
	case <-time.After(30 * time.Second):
		t.Error("net/http no longer logs it: tameStdlog is of no use")
	}
}
