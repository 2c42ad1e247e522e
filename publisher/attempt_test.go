package publisher

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// What PROTOCOL.md §9 says of where a status and a refusal may stand, the publisher takes nowhere else: an inform with a final
// status would be the sidecar's whole reply, and one with 101 would hand its connection over.
func TestReplyHeadsThatMayNotStandThere(t *testing.T) {
	refusal := relay.NewError(relay.CodeOverloaded, "busy").Problem()
	for name, say := range map[string]func(*relay.Stream) error{
		"an inform with a final status": func(s *relay.Stream) error {
			_ = s.SendInform(saying(t, relay.ReplyHead{Status: 200}))
			return s.SendHead(saying(t, relay.ReplyHead{Status: 404, Length: 4}), []byte("late"), true, 404)
		},
		"an inform that switches protocols": func(s *relay.Stream) error {
			_ = s.SendInform(saying(t, relay.ReplyHead{Status: 101}))
			return s.SendHead(saying(t, relay.ReplyHead{Status: 404, Length: 4}), []byte("late"), true, 404)
		},
		"a refusal with a body to come": func(s *relay.Stream) error {
			_ = s.SendHead(saying(t, relay.ReplyHead{Status: 503, Refusal: refusal, Length: -1}), nil, false, 503)
			return s.SendEnd([]byte("{}"), 503)
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, transport := newStandIn(t, nil, func(s *relay.Stream) {
				_ = say(s)
			})
			srv := httptest.NewServer(sidecarOf(t, transport))
			defer srv.Close()
			r := relayed(t, "POST")
			r.URL.Host, r.Host = srv.Listener.Addr().String(), ""
			resp, err := srv.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != relay.CodeStreamBroken.Info().Status || resp.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s %v", resp.Status, resp.Header)
			}
		})
	}
}

// A caller that speaks HTTP/1.0 takes the first head for the reply, so it gets no informational one (RFC 9110 §15.2).
func TestInformsAreNotForHTTP10(t *testing.T) {
	_, transport := newStandIn(t, nil, func(s *relay.Stream) {
		_ = s.SendInform(saying(t, relay.ReplyHead{Status: 103}))
		_ = s.SendHead(saying(t, relay.ReplyHead{Status: 200, Length: 4}), []byte("done"), true, 200)
	})
	srv := httptest.NewServer(sidecarOf(t, transport))
	defer srv.Close()
	for version, want := range map[string]string{"1.0": "HTTP/1.0 200 OK", "1.1": "HTTP/1.1 103 Early Hints"} {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET /x HTTP/%s\r\nHost: localhost\r\n%s: %s\r\n\r\n", version, relay.HeaderAccessToken, testJWT("alice", time.Now().Add(time.Hour)))
		got, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || strings.TrimSpace(got) != want {
			t.Errorf("HTTP/%s: the first line is %q, %v", version, got, err)
		}
	}
}

// What may not cross from a reply does not cross from an informational one either (PROTOCOL.md §9).
func TestInformsAreStripped(t *testing.T) {
	inform, err := relay.EncodeHead(&relay.ReplyHead{Status: 103, Length: -1, Header: http.Header{
		"Connection": {"close, X-Named"}, "X-Named": {"n"}, "Obo-Id": {"forged"}, "Content-Length": {"9"}, "Link": {"</a.css>; rel=preload"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, transport := newStandIn(t, nil, func(s *relay.Stream) {
		_ = s.SendInform(inform)
		_ = s.SendHead(saying(t, relay.ReplyHead{Status: 200, Length: 4}), []byte("done"), true, 200)
	})
	srv := httptest.NewServer(sidecarOf(t, transport))
	defer srv.Close()
	for host, through := range map[string]http.RoundTripper{srv.Listener.Addr().String(): srv.Client().Transport, "middleware": transport} {
		r := relayed(t, "GET")
		r.URL.Host, r.Host = host, ""
		var got http.Header
		resp, err := through.RoundTrip(r.WithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(_ int, h textproto.MIMEHeader) error { got = http.Header(h); return nil },
		})))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if len(got) != 1 || got.Get("Link") == "" {
			t.Errorf("the informational reply through %T came with %v", through, got)
		}
	}
}

func sidecarOf(t *testing.T, transport *Transport) http.Handler {
	t.Helper()
	h, err := NewSidecar(SidecarConfig{Transport: transport, Service: "middleware", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// onTheWire hears all that goes to the service, on a connection of its own.
func onTheWire(t *testing.T, url string) (*nats.Conn, *nats.Subscription) {
	t.Helper()
	nc, err := relay.ConnectOnce(relay.ConnectConfig{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	wire, err := nc.SubscribeSync("obo.v1.*.middleware.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return nc, wire
}

// Whoever trusts the broker believes a 503 to the only message sent. A later one is about a later message: the worker may have
// begun and then left, and the request must not go elsewhere.
func TestLate503IsNotBelieved(t *testing.T) {
	t.Parallel()
	var w *standIn
	var transport *Transport
	w, transport = newStandIn(t, func(c *Config) { c.TrustBroker = true }, func(*relay.Stream) { w.over = true }) // it says nothing
	nc, wire := onTheWire(t, w.url)
	r, ended := relayed(t, "POST"), make(chan error, 1)
	go func() {
		resp, err := transport.RoundTrip(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		ended <- err
	}()
	var last *nats.Msg
	var err error
	for range 2 { // the request, and what keeps it alive
		if last, err = wire.NextMsg(20 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.PublishMsg(&nats.Msg{Subject: last.Reply, Header: nats.Header{"Status": {"503"}}}); err != nil {
		t.Fatal(err)
	}
	var fault *relay.Error
	if err := <-ended; !errors.As(err, &fault) || fault.Code != relay.CodeOutcomeUnknown || fault.Problem().Outcome != relay.Unknown || !strings.Contains(fault.Detail, "NATS says") {
		t.Errorf("%v", err)
	}
}

// A server denies a subject, and does not say of which message: a request that its worker has answered was passed on, and goes on.
func TestDenialEndsOnlyWhatNobodyHasAnswered(t *testing.T) {
	answered, unanswered := make(chan *relay.Stream, 1), make(chan struct{}, 1)
	_, transport := newStandIn(t, nil, func(s *relay.Stream) {
		select {
		case answered <- s:
			_ = s.SendHead(saying(t, relay.ReplyHead{Status: 200, Length: -1}), nil, false, 200)
		default:
			unanswered <- struct{}{}
		}
	})
	resp, err := transport.RoundTrip(relayed(t, "GET"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	failed, r := make(chan error, 1), relayed(t, "POST")
	go func() {
		_, err := transport.RoundTrip(r)
		failed <- err
	}()
	<-unanswered
	transport.denied(fmt.Errorf("%w: Permissions Violation for Publish to %q", nats.ErrPermissionViolation, transport.attempts()[0].subject))
	if err := <-failed; !errors.Is(err, relay.CodeNATSDenied) {
		t.Errorf("the request without an answer: %v", err)
	}
	s := <-answered
	_, _ = s.WriteData(t.Context(), []byte("it goes on"))
	_ = s.SendEnd([]byte("{}"), 200)
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "it goes on" {
		t.Errorf("the reply that was coming: %q, %v", body, err)
	}
}

// A caller that leaves at the very start: the request does not follow its own cancel, which would find nothing to cancel.
func TestCancelDoesNotOvertakeItsRequest(t *testing.T) {
	var leave context.CancelFunc
	w, transport := newStandIn(t, func(c *Config) { c.OnAttempt = func(context.Context, Attempt) { leave() } }, func(*relay.Stream) {})
	_, wire := onTheWire(t, w.url)
	const requests = 300
	for range requests {
		r := relayed(t, "POST")
		ctx, cancel := context.WithCancel(t.Context())
		leave = cancel
		if _, err := transport.RoundTrip(r.WithContext(ctx)); !errors.Is(err, relay.CodeCanceled) {
			t.Fatal(err)
		}
	}
	canceled := map[relay.ID]bool{}
	for len(canceled) < requests {
		m, err := wire.NextMsg(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		switch addr := transport.subjects.Parse(m.Subject); addr.Kind {
		case relay.KindControl:
			if relay.FrameType(m.Data[1]) == relay.FrameCancel {
				canceled[addr.ID] = true
			}
		case relay.KindRequest:
			if id := transport.subjects.Parse(m.Reply).ID; canceled[id] {
				t.Fatalf("request %s was sent after it was canceled (%d before it were not)", id, len(canceled))
			}
		}
	}
}

// Whoever has decided to send the first message again may come too late: the caller has been told that nothing was delivered,
// and goes elsewhere.
func TestNothingLeavesAfterNotDelivered(t *testing.T) {
	came := make(chan struct{})
	_, transport := newStandIn(t, func(c *Config) {
		c.TrustBroker = true
		c.Now = newTestClock().now // stands still: no keep-alive is due
	}, func(*relay.Stream) { close(came) })
	failed := make(chan error, 1)
	r := relayed(t, "POST")
	go func() {
		_, err := transport.RoundTrip(r)
		failed <- err
	}()
	<-came
	a := transport.attempts()[0]
	a.hint(relay.CodeOutcomeUnknown)
	if err := <-failed; !errors.Is(err, relay.CodeNoWorker) || relay.AsError(err).Problem().Outcome != relay.NotDelivered {
		t.Fatal(err)
	}
	if a.publisher("ctl", "rep", nil)([]byte("again"), relay.FrameWhole, 0) == nil {
		t.Error("the request was sent again after its caller was told that it was not delivered")
	}
}

// What a head says of its body is its length alone: a Content-Length among the fields does not cross (PROTOCOL.md §9).
func TestRepliesHaveTheLengthOfTheirHead(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		length int64
		want   []string
	}{
		"known": {200, 4, []string{"4"}}, "not known": {200, -1, nil}, "no body": {204, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			head, err := relay.EncodeHead(&relay.ReplyHead{Status: c.status, Length: c.length, Header: http.Header{"Content-Length": {"3", "9"}}})
			if err != nil {
				t.Fatal(err)
			}
			_, transport := newStandIn(t, nil, func(s *relay.Stream) {
				_ = s.SendHead(head, []byte("done")[:max(0, min(c.length, 4))], true, c.status)
			})
			resp, err := transport.RoundTrip(relayed(t, "GET"))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if got := resp.Header["Content-Length"]; !slices.Equal(got, c.want) {
				t.Errorf("Content-Length is %q, want %q", got, c.want)
			}
		})
	}
}
