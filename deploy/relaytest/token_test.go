package relaytest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// What is wrong with a token is said before anything leaves the publisher.
func TestBadTokens(t *testing.T) {
	n, _ := start(t)
	handler := &counter{}
	n.Worker(handler, nil)
	client := n.Publisher(nil)
	tap := n.Tap(n.Inspector, "obo.v1.req.>")
	now := time.Now()
	for _, c := range []struct {
		name   string
		header http.Header
		code   relay.Code
		says   string
	}{
		{"none", http.Header{}, relay.CodeTokenMissing, "X-Forwarded-Access-Token"},
		{"empty", http.Header{"X-Forwarded-Access-Token": {""}}, relay.CodeTokenMissing, "switch on user authorization"},
		{"empty bearer", http.Header{"Authorization": {"Bearer "}}, relay.CodeTokenMissing, ""},
		{"other scheme", http.Header{"Authorization": {"Basic YTpi"}}, relay.CodeTokenMissing, ""},
		{"space inside", http.Header{"X-Forwarded-Access-Token": {"a b"}}, relay.CodeTokenMalformed, "visible ASCII"},
		{"control character", http.Header{"X-Forwarded-Access-Token": {"a\x01b"}}, relay.CodeTokenMalformed, "visible ASCII"},
		{"not ASCII", http.Header{"X-Forwarded-Access-Token": {"tökén"}}, relay.CodeTokenMalformed, "visible ASCII"},
		{"too long", http.Header{"X-Forwarded-Access-Token": {strings.Repeat("a", 8001)}}, relay.CodeTokenMalformed, "8001 bytes, the limit is 8000"},
		{"opaque", http.Header{"X-Forwarded-Access-Token": {"dapi0123456789"}}, relay.CodeTokenOpaque, "--opaque-tokens on publisher and worker"},
		{"expired", http.Header{"X-Forwarded-Access-Token": {relaytest.Token("alice", now.Add(-90*time.Second))}}, relay.CodeTokenExpired, "Reload the page"},
		{"two", http.Header{"X-Forwarded-Access-Token": {alice()}, "Authorization": {"Bearer " + relaytest.Token("bob", now.Add(time.Hour))}}, relay.CodeTokenAmbiguous, "Send one token"},
		{"two lines", http.Header{"X-Forwarded-Access-Token": {relaytest.Token("alice", now.Add(time.Hour)), relaytest.Token("bob", now.Add(time.Hour))}}, relay.CodeTokenAmbiguous, "Send one token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRequest(t, "POST", "/", nil)
			r.Header = c.header
			got := do(client, r)
			got.wantCode(t, c.code, c.says)
			for _, values := range c.header {
				for _, v := range values {
					if v = strings.TrimPrefix(v, "Bearer "); len(v) > 2 && got.err != nil && strings.Contains(got.err.Error(), v) {
						t.Error("the error quotes the token")
					}
				}
			}
		})
	}
	handler.want(t, 0)
	if seen := tap.All(); len(seen) != 0 {
		t.Errorf("%d messages left the publisher", len(seen))
	}
}

// The same token in both headers is one token, and Authorization alone is enough.
func TestTokenInEitherHeader(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		says(r.Header.Get("X-Forwarded-Access-Token")+r.Header.Get("Authorization"))(w, r)
	}), nil)
	client := n.Publisher(nil)
	token := alice()
	for _, header := range []http.Header{
		{"X-Forwarded-Access-Token": {token}},
		{"Authorization": {"Bearer " + token}},
		{"Authorization": {"bearer   " + token}},
		{"X-Forwarded-Access-Token": {token}, "Authorization": {"Bearer " + token}},
		{"X-Forwarded-Access-Token": {token}, "Authorization": {"Basic YTpi"}},
	} {
		r := newRequest(t, "GET", "/", nil)
		r.Header = header
		if got := do(client, r); got.body != token {
			t.Errorf("the handler got %s", got)
		}
	}
}

// Opaque tokens need the switch on both sides; where only the worker lacks it the caller is pointed to the worker's log.
func TestOpaqueTokens(t *testing.T) {
	for _, c := range []struct {
		name              string
		publisher, worker bool
	}{{"both", true, true}, {"publisher only", true, false}, {"worker only", false, true}} {
		t.Run(c.name, func(t *testing.T) {
			n, log := start(t)
			handler := &counter{handler: says("hello")}
			n.Worker(handler, func(w *worker.Config) { w.OpaqueTokens = c.worker })
			client := n.Publisher(func(p *publisher.Config) { p.OpaqueTokens = c.publisher })
			r := newRequest(t, "POST", "/", nil)
			r.Header.Set("X-Forwarded-Access-Token", "dapi0123456789")
			got := do(client, r)
			switch {
			case c.publisher && c.worker:
				got.want(t, 200, "hello")
			case c.publisher:
				got.wantCode(t, relay.CodeRefusedUnverified, "Look for the request id in the worker's log")
				log.Wait(t, "refused", got.err.(*relay.Error).RequestID, "the token is opaque, and --opaque-tokens is not set")
				handler.want(t, 0)
			default:
				got.wantCode(t, relay.CodeTokenOpaque)
				handler.want(t, 0)
			}
		})
	}
}

// A token that has run out by the worker's clock, but within the leeway, serves.
func TestTokenWithinTheLeeway(t *testing.T) {
	n, _ := start(t)
	n.Worker(says("hello"), func(c *worker.Config) {
		c.Now = func() time.Time { return time.Now().Add(25 * time.Second) }
	})
	client := n.Publisher(nil)
	r := newRequest(t, "POST", "/", nil)
	r.Header.Set("X-Forwarded-Access-Token", relaytest.Token("alice", time.Now().Add(5*time.Second)))
	do(client, r).want(t, 200, "hello")
}
