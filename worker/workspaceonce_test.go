package worker

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/obo-relay/obo-relay/relay"
)

// resetting is an HTTP/2 server that takes each request whole and then resets its stream.
type resetting struct {
	address  string
	code     http2.ErrCode
	leaves   atomic.Bool // for good, with the first reset
	listener net.Listener
	goAways  atomic.Int64 // so many streams are not taken, as of a server that is replaced
	taken    atomic.Int64
}

func newResetting(t *testing.T, code http2.ErrCode) (*resetting, http.RoundTripper) {
	t.Helper()
	certificate := httptest.NewUnstartedServer(nil)
	certificate.EnableHTTP2 = true
	certificate.StartTLS()
	t.Cleanup(certificate.Close)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificate.TLS.Certificates, NextProtos: []string{"h2"}})
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	s := &resetting{address: "https://" + l.Addr().String(), code: code, listener: l}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(t.Context(), func() { _ = conn.Close() }) // the client gives it up when it gets round to that
			go s.serve(conn)
		}
	}()
	transport := newTransport()
	transport.TLSClientConfig = certificate.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	transport.TLSClientConfig.NextProtos = nil
	t.Cleanup(transport.CloseIdleConnections)
	return s, transport
}

func (s *resetting) serve(conn net.Conn) {
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	f := http2.NewFramer(conn, conn)
	_ = f.WriteSettings()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		if settings, ok := frame.(*http2.SettingsFrame); ok && !settings.IsAck() {
			_ = f.WriteSettingsAck()
		}
		h := frame.Header()
		if (h.Type == http2.FrameHeaders || h.Type == http2.FrameData) && h.Flags.Has(http2.FlagDataEndStream) {
			s.taken.Add(1)
			if s.goAways.Add(-1) >= 0 {
				_ = f.WriteGoAway(0, http2.ErrCodeNo, nil) // took no stream
				continue
			}
			if s.leaves.Load() {
				_ = s.listener.Close()
				_ = f.WriteGoAway(h.StreamID, http2.ErrCodeNo, nil)
			}
			_ = f.WriteRSTStream(h.StreamID, s.code)
		}
	}
}

// net/http's HTTP/2 client sends a request again whose stream was reset with some codes, although one of them does not say that
// the request was not executed. What changes something is sent once.
func TestOverHTTP2WhatChangesSomethingIsSentOnce(t *testing.T) {
	for _, code := range []http2.ErrCode{http2.ErrCodeProtocol, http2.ErrCodeInternal} {
		for name, body := range map[string]io.Reader{"a body": strings.NewReader("{}"), "no body": nil} {
			s, transport := newResetting(t, code)
			w, err := NewWorkspace(WorkspaceConfig{Host: s.address, Transport: transport})
			must(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // net/http's pauses between its tries grow
			defer cancel()
			resp, err := w.do(ctx, aliceToken(t), "POST", statementsAPI, http.Header{relay.HeaderIdempotencyKey: {"1"}}, body, 0)
			if err == nil {
				discard(resp)
				t.Fatal("answered")
			}
			if e, acted := callError(t.Context(), aliceToken(t), err); !acted || s.taken.Load() != 1 {
				t.Errorf("%v, %s: sent %d times, acted %v, %v", code, name, s.taken.Load(), acted, e)
			}
		}
	}
}

// Only a DELETE without a body may be sent again: what the last try came to proves nothing of those before.
func TestOverHTTP2DeleteSentTwiceMayHaveActed(t *testing.T) {
	s, transport := newResetting(t, http2.ErrCodeProtocol)
	s.leaves.Store(true)
	w, err := NewWorkspace(WorkspaceConfig{Host: s.address, Transport: transport})
	must(t, err)
	call := func() (*relay.Error, bool) {
		resp, err := w.do(t.Context(), aliceToken(t), "DELETE", "/api/2.0/x", nil, nil, 0)
		if err == nil {
			discard(resp)
			t.Fatal("answered")
		}
		return callError(t.Context(), aliceToken(t), err)
	}
	if e, acted := call(); !acted || s.taken.Load() != 1 {
		t.Errorf("taken %d times, acted %v, %v", s.taken.Load(), acted, e)
	}
	if e, acted := call(); acted || e.Code != relay.CodeWorkspaceDown {
		t.Errorf("without a workspace: acted %v, %v", acted, e)
	}
}

// net/http would send what has no body again for as long as its streams are reset with PROTOCOL_ERROR, each time over another
// connection.
func TestOverHTTP2NothingIsSentForEver(t *testing.T) {
	for _, method := range []string{"GET", "DELETE"} {
		s, transport := newResetting(t, http2.ErrCodeProtocol)
		w, err := NewWorkspace(WorkspaceConfig{Host: s.address, Transport: transport})
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		resp, err := w.do(ctx, aliceToken(t), method, "/api/2.0/x", nil, nil, 0)
		if err == nil {
			discard(resp)
			t.Fatal("answered")
		}
		if e, acted := callError(ctx, aliceToken(t), err); !acted || e.Code != relay.CodeWorkspaceFailed || s.taken.Load() > maxTries {
			t.Errorf("%s: sent %d times, acted %v, %v", method, s.taken.Load(), acted, e)
		}
	}
}

func TestOverHTTP2NoLinkIsReadForEver(t *testing.T) {
	s, transport := newResetting(t, http2.ErrCodeProtocol)
	w, err := NewWorkspace(WorkspaceConfig{Host: s.address, Timeout: 10 * time.Second})
	must(t, err)
	f := newLinkFetcher(RoutesConfig{Workspace: w, Log: slog.New(slog.DiscardHandler)})
	f.transport = transport.(*http.Transport)
	if _, _, e := f.get(t.Context(), &sqlLink{Address: s.address + "/x"}, aliceToken(t), 0); e == nil || s.taken.Load() > maxTries {
		t.Errorf("read %d times, %v", s.taken.Load(), e)
	}
}

// What the workspace proves that it did not take (RFC 9113 sections 6.8 and 8.7) is sent again, as net/http would.
func TestOverHTTP2WhatWasNotTakenIsSentAgain(t *testing.T) {
	for name, c := range map[string]struct {
		goAways int64
		code    http2.ErrCode
		body    io.Reader
		taken   int64
		acted   bool
	}{
		"a server that goes":                   {2, http2.ErrCodeProtocol, strings.NewReader("{}"), 3, true},
		"without a body":                       {1, http2.ErrCodeProtocol, nil, 2, true},
		"a body that can be read once":         {1, http2.ErrCodeProtocol, io.MultiReader(strings.NewReader("{}")), 1, false},
		"refused for ever":                     {0, http2.ErrCodeRefusedStream, strings.NewReader("{}"), maxTries, false},
		"refused, a body that is read once":    {0, http2.ErrCodeRefusedStream, io.MultiReader(strings.NewReader("{}")), 1, false},
		"a server that goes, and then refuses": {1, http2.ErrCodeRefusedStream, strings.NewReader("{}"), maxTries, false},
	} {
		s, transport := newResetting(t, c.code)
		s.goAways.Store(c.goAways)
		w, err := NewWorkspace(WorkspaceConfig{Host: s.address, Transport: transport})
		must(t, err)
		resp, err := w.do(t.Context(), aliceToken(t), "POST", statementsAPI, nil, c.body, 0)
		if err == nil {
			discard(resp)
			t.Fatal("answered")
		}
		e, acted := callError(t.Context(), aliceToken(t), err)
		if s.taken.Load() != c.taken || acted != c.acted || (e.Code == relay.CodeWorkspaceDown) == acted {
			t.Errorf("%s: sent %d times, acted %v, %v", name, s.taken.Load(), acted, e)
		}
	}
}
