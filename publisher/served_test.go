package publisher

import (
	"fmt"
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
