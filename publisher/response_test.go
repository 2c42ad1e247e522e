package publisher

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

// A worker whose reply cannot be used hears at once that nobody waits for it: its handler would go on until the silence was long
// enough.
func TestWorkerHearsThatItsReplyIsGivenUp(t *testing.T) {
	head := func(t *testing.T) []byte { return saying(t, relay.ReplyHead{Status: 200, Length: -1}) }
	for name, say := range map[string]func(*testing.T, *relay.Stream){
		"a head that is none": func(_ *testing.T, s *relay.Stream) { _ = s.SendHead([]byte("{"), nil, false, 200) },
		"a refusal with a body to come": func(t *testing.T, s *relay.Stream) {
			_ = s.SendHead(saying(t, relay.ReplyHead{Status: 503, Refusal: relay.NewError(relay.CodeOverloaded, "busy").Problem()}), nil, false, 503)
		},
		"an inform with a final status": func(t *testing.T, s *relay.Stream) { _ = s.SendInform(head(t)) },
		"a body of 204": func(t *testing.T, s *relay.Stream) {
			_ = s.SendHead(saying(t, relay.ReplyHead{Status: 204, Length: -1}), []byte("body"), false, 204)
		},
		"more than the length": func(t *testing.T, s *relay.Stream) {
			_ = s.SendHead(saying(t, relay.ReplyHead{Status: 200, Length: 3}), []byte("body"), false, 200)
		},
		"data before the head": func(t *testing.T, s *relay.Stream) { _, _ = s.WriteData(t.Context(), []byte("early")) },
		"a second head": func(t *testing.T, s *relay.Stream) {
			_ = s.SendHead(head(t), nil, false, 200)
			_ = s.SendHead(head(t), nil, false, 200)
		},
	} {
		t.Run(name, func(t *testing.T) {
			streams := make(chan *relay.Stream, 1)
			_, transport := newStandIn(t, nil, func(s *relay.Stream) {
				say(t, s)
				streams <- s
			})
			resp, err := transport.RoundTrip(relayed(t, "POST"))
			var body []byte
			if err == nil {
				body, err = io.ReadAll(resp.Body)
			}
			if !errors.Is(err, relay.CodeStreamBroken) || len(body) > 3 {
				t.Errorf("%q, %v", body, err)
			}
			s := <-streams
			<-s.Context().Done()
			if !errors.Is(s.Err(), relay.CodeCanceled) {
				t.Error(s.Err())
			}
		})
	}
}

// A body that comes where there is none, whole, is told as what it is: net/http would take the connection of the sidecar's caller
// away without a word.
func TestWholeRepliesWithoutABody(t *testing.T) {
	for _, c := range []struct {
		method string
		status int
		body   string
		want   int
	}{
		{"GET", 204, "body", 502}, {"GET", 304, "body", 502}, {"HEAD", 200, "body", 502},
		{"GET", 204, "", 204}, {"GET", 304, "", 304}, {"HEAD", 200, "", 200},
	} {
		_, transport := newStandIn(t, nil, func(s *relay.Stream) {
			_ = s.SendHead(saying(t, relay.ReplyHead{Status: c.status, Length: 4}), []byte(c.body), true, c.status)
		})
		srv := httptest.NewServer(sidecarOf(t, transport))
		r := relayed(t, c.method)
		r.URL.Host, r.Host = srv.Listener.Addr().String(), ""
		resp, err := srv.Client().Do(r)
		if err != nil {
			t.Errorf("%s, %d with %q: %v", c.method, c.status, c.body, err)
		} else if _ = resp.Body.Close(); resp.StatusCode != c.want {
			t.Errorf("%s, %d with %q: %s", c.method, c.status, c.body, resp.Status)
		}
		srv.Close()
	}
}

// What may be no trailer is not announced as one either (PROTOCOL.md §9): Go's client gives up a reply that announces
// Content-Length, and the sidecar would send a field of the header again.
func TestTrailersThatAreAnnounced(t *testing.T) {
	named := relay.ReplyHead{Status: 200, Length: -1, Trailer: []string{"Connection", "Content-Length", "Host", "Obo-Id", "Trailer", "Transfer-Encoding", "X-Forwarded-Email", "X-Ok"}}
	end, err := relay.EncodeHead(&relay.End{Trailer: http.Header{"X-Ok": {"1"}, "Content-Length": {"9"}, "Obo-Id": {"forged"}}})
	if err != nil {
		t.Fatal(err)
	}
	_, transport := newStandIn(t, nil, func(s *relay.Stream) {
		_ = s.SendHead(saying(t, named), []byte("body"), false, 200)
		_ = s.SendEnd(end, 200)
	})
	srv := httptest.NewServer(sidecarOf(t, transport))
	defer srv.Close()
	for host, through := range map[string]http.RoundTripper{srv.Listener.Addr().String(): srv.Client().Transport, "middleware": transport} {
		r := relayed(t, "GET")
		r.URL.Host, r.Host = host, ""
		resp, err := through.RoundTrip(r)
		if err != nil {
			t.Errorf("through %T: %v", through, err)
			continue
		}
		announced := len(resp.Trailer)
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "body" || announced != 1 || len(resp.Trailer) != 1 || resp.Trailer.Get("X-Ok") != "1" {
			t.Errorf("through %T: %q, %v, %d trailers announced, then %v", through, body, err, announced, resp.Trailer)
		}
		_ = resp.Body.Close()
	}
}
