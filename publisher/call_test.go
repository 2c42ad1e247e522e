package publisher

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// A body that is not as long as its Content-Length is not sent as if it were whole, as net/http's own transport has it.
func TestSmallBodyOfAnotherLength(t *testing.T) {
	_, transport := newStandIn(t, nil, func(s *relay.Stream) {
		_ = s.SendHead(saying(t, relay.ReplyHead{Status: 200}), nil, true, 200)
	})
	for body, ok := range map[string]bool{"four": false, "fives": true, "more than five": false} {
		r := relayed(t, "POST")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), 5
		resp, err := transport.RoundTrip(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		if ok && err != nil || !ok && !errors.Is(err, relay.CodeBadRequest) {
			t.Errorf("%q with a Content-Length of 5: %v", body, err)
		}
	}
}

// The same where the body is uploaded: whose fault it is shows on this side only.
func TestLargeBodyOfAnotherLength(t *testing.T) {
	_, transport := newStandIn(t, nil, func(s *relay.Stream) {
		go func() { // reads while the subscription goes on
			if _, err := io.Copy(io.Discard, s); err == nil {
				_ = s.SendHead(saying(t, relay.ReplyHead{Status: 200}), nil, true, 200)
			}
		}()
	})
	const declared = 100_000
	for length, ok := range map[int]bool{1: false, declared - 1: false, declared: true, declared + 1: false, 10 * declared: false} {
		r := relayed(t, "POST")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", length))), declared
		resp, err := transport.RoundTrip(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		if e, _ := errors.AsType[*relay.Error](err); ok != (err == nil) || !ok && (!errors.Is(err, relay.CodeBadRequest) || e.Problem().Outcome != relay.Unknown) {
			t.Errorf("%d bytes with a Content-Length of %d: %v", length, declared, err)
		}
	}
}

// A request that never left is not told as one that may have been executed, whatever ended it.
func TestOutcomeBeforeAnythingIsSent(t *testing.T) {
	never, err := New(Config{
		App: "ui", Identity: relay.NewIdentity(), Trust: trustOf(t, map[string]relay.Identity{"middleware": relay.NewIdentity()}),
		NATS: relay.ConnectConfig{URL: "nats://127.0.0.1:1"}, ConnectWait: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	outcome := func(transport *Transport, ctx context.Context) relay.Outcome {
		_, err := transport.RoundTrip(relayed(t, "POST").WithContext(ctx))
		e, ok := errors.AsType[*relay.Error](err)
		if !ok {
			t.Fatal(err)
		}
		return e.Problem().Outcome
	}
	late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if got := outcome(never, late); got != relay.NotDelivered {
		t.Errorf("a deadline that passes while NATS is away: %s", got)
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	if got := outcome(never, left); got != relay.NotDelivered {
		t.Errorf("a caller that has left before: %s", got)
	}
}

// A caller may take long to make its body again. Trust that is withdrawn meanwhile counts: nothing is sent to a worker whose
// key is no longer trusted.
func TestTrustThatGoesWhileTheBodyIsMadeAgain(t *testing.T) {
	w, transport := newStandIn(t, nil, func(s *relay.Stream) {
		_ = s.SendHead(saying(t, relay.ReplyHead{Status: 503, Refusal: relay.NewError(relay.CodeOverloaded, "busy").Problem()}), nil, true, 503)
	})
	other := relay.NewIdentity()
	both, err := (relay.TrustFile{Type: relay.TrustTypeName, Services: map[string]relay.JWKS{
		"middleware": {Keys: []relay.JWK{w.identity.Public(), other.Public()}},
	}}).Trust()
	if err != nil {
		t.Fatal(err)
	}
	transport.SetTrust(both)
	for {
		_, there, changed := transport.directory.candidates("middleware")
		if len(there) > 0 {
			break
		}
		<-changed
	}
	next := newTestWorker(t, other, time.Hour, time.Now())
	next.said.State = relay.Draining // comes second
	if err := transport.directory.heard("middleware", next.announces(time.Now())); err != nil {
		t.Fatal(err)
	}
	sent, err := w.nc.SubscribeSync(transport.subjects.Request("middleware", next.said.Instance, "ui"))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	r := relayed(t, "POST")
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader("body")), -1
	r.GetBody = func() (io.ReadCloser, error) {
		transport.SetTrust(trustOf(t, map[string]relay.Identity{"middleware": w.identity}))
		return io.NopCloser(strings.NewReader("body")), nil
	}
	if _, err := transport.RoundTrip(r); !errors.Is(err, relay.CodeOverloaded) {
		t.Error(err)
	}
	if err := errors.Join(transport.nc.NATS().Flush(), w.nc.Flush()); err != nil {
		t.Fatal(err)
	}
	if n, _, _ := sent.Pending(); n != 0 {
		t.Error("a request was sent to a worker whose key is no longer trusted")
	}
}

// Go's own transport takes the path from URL.Opaque where that is set. It must not become another path here.
func TestOpaqueURLIsNotTheRoot(t *testing.T) {
	_, transport := newStandIn(t, nil, func(s *relay.Stream) {
		_ = s.SendHead(saying(t, relay.ReplyHead{Status: 200}), nil, true, 200)
	})
	r := relayed(t, "DELETE")
	r.URL.Path, r.URL.Opaque = "", "/items/a%20b"
	resp, err := transport.RoundTrip(r)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, relay.CodeBadRequest) {
		t.Errorf("DELETE of the opaque URL %s: %v", r.URL, err)
	}
}

// Go's own transport says so, too, where a request was put together by hand.
func TestNoURL(t *testing.T) {
	_, transport := newStandIn(t, nil, nil)
	r := relayed(t, "GET")
	r.URL = nil
	if _, err := transport.RoundTrip(r); !errors.Is(err, relay.CodeBadRequest) {
		t.Error(err)
	}
}

// Whoever waits no longer is not kept waiting by a body of which nothing comes, be it small and read before anything is sent.
func TestDeadlineHoldsWhileASmallBodyIsRead(t *testing.T) {
	transport, err := New(Config{
		App: "ui", Identity: relay.NewIdentity(), Trust: trustOf(t, map[string]relay.Identity{"middleware": relay.NewIdentity()}),
		NATS: relay.ConnectConfig{URL: "nats://127.0.0.1:1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	body, writer := io.Pipe()
	r := relayed(t, "POST").WithContext(ctx)
	r.Body, r.ContentLength = body, 4
	ended := make(chan error, 1)
	go func() {
		_, err := transport.RoundTrip(r)
		ended <- err
	}()
	select {
	case err := <-ended:
		if e := relay.AsError(err); e.Code != relay.CodeTimeout || e.Outcome != relay.NotDelivered {
			t.Errorf("%v, %s", err, e.Outcome)
		}
		if _, err := writer.Write([]byte("late")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the body is not closed: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it still waits for the body")
		_ = writer.Close()
	}
}
