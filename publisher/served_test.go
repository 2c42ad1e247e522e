package publisher

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// An upload that begins to be read at the moment when an informational reply comes: both write to the caller, one after the other.
func TestContinueBesideAnInform(t *testing.T) {
	for range 10 {
		gate := make(chan struct{})
		_, transport := newStandIn(t, nil, func(s *relay.Stream) {
			close(gate)
			for range 10 {
				_ = s.SendInform(saying(t, relay.ReplyHead{Status: 103}))
			}
			_ = s.SendHead(saying(t, relay.ReplyHead{Status: 200, Length: 4}), []byte("done"), true, 200)
		})
		transport.buffers = &buffers{sync.Pool{New: func() any { <-gate; return new([copyBuffer]byte) }}}
		srv := httptest.NewServer(sidecarOf(t, transport))
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST /x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n%s: %s\r\n\r\n", relay.HeaderAccessToken, testJWT("alice", time.Now().Add(time.Hour)))
		var got []byte
		for b := make([]byte, 1024); err == nil && !strings.HasSuffix(string(got), "done"); {
			var n int
			n, err = c.Read(b)
			got = append(got, b[:n]...)
		}
		if err != nil || !strings.HasSuffix(string(got), "\r\n\r\ndone") || !strings.HasPrefix(string(got), "HTTP/1.1 100 Continue\r\n\r\n") || strings.Count(string(got), "HTTP/1.1 103 Early Hints\r\n\r\n") != 10 {
			t.Errorf("%q, %v", got, err)
		}
		_ = c.Close()
		srv.Close()
	}
}

// A caller who sends a body that is none hears so: nobody left. It may have been executed, since the beginning had gone out.
func TestMalformedBody(t *testing.T) {
	for sent, want := range map[string]string{
		"4\r\npart\r\nno length\r\n": `"code":"bad_request","outcome":"unknown"`,
		"4\r\npartand more":          `"code":"bad_request","outcome":"unknown"`,
		"4\r\npart\r\n":              `"code":"canceled","outcome":"unknown"`, // and no more: the caller left
	} {
		_, transport := newStandIn(t, nil, func(*relay.Stream) {})
		srv := httptest.NewServer(sidecarOf(t, transport))
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n%s: %s\r\n\r\n%s", relay.HeaderAccessToken, testJWT("alice", time.Now().Add(time.Hour)), sent)
		_ = c.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%q: %q, %v", sent, got, err)
		}
		_ = c.Close()
		srv.Close()
	}
}

// What is wrong with a caller's body is in the log, what the caller sent is not: net/http quotes the line of a trailer.
func TestMalformedTrailerIsNotLogged(t *testing.T) {
	_, transport := newStandIn(t, nil, func(*relay.Stream) {})
	var log bytes.Buffer
	h, err := NewSidecar(SidecarConfig{Transport: transport, Service: "middleware", Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(h)
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n%s: %s\r\n\r\n4\r\npart\r\n0\r\nX-Sum hunter2\r\n\r\n", relay.HeaderAccessToken, testJWT("alice", time.Now().Add(time.Hour)))
	_ = c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	srv.Close() // the log is complete
	if err != nil || !strings.Contains(string(got), `"code":"bad_request","outcome":"unknown"`) {
		t.Errorf("%q, %v", got, err)
	}
	if !strings.Contains(log.String(), "malformed MIME header") || strings.Contains(log.String()+string(got), "hunter2") {
		t.Errorf("the log is %s", log.String())
	}
}
