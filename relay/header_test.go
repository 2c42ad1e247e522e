package relay

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// spellings are a field's name in forms that some server takes for the same.
func spellings(name string) []string {
	under := strings.ReplaceAll(name, "-", "_")
	mixed := []byte(strings.ToLower(name))
	for i := 0; i < len(mixed); i += 2 {
		mixed[i] = bytes.ToUpper(mixed[i : i+1])[0]
	}
	return []string{
		name, strings.ToLower(name), strings.ToUpper(name), string(mixed), under, strings.ToLower(under), strings.ToUpper(under),
		strings.Replace(name, "-", "_", 1), http.CanonicalHeaderKey(under),
	}
}

var droppedFromBoth = []string{
	"Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Proxy-Authorization", "Proxy-Authenticate", "Proxy-Connection", "Proxy-Anything",
	"Obo-Id", "Obo-Status", "Obo-Timeout", "Obo-Anything",
}

var droppedFromRequests = []string{
	"Host", "Expect", "Content-Length", "Authorization", "Forwarded", "X-Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Access-Token",
	"X-Forwarded-Email", "X-Forwarded-User", "X-Forwarded-Preferred-Username", "X-Forwarded-Groups", "X-Real-Ip", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
}

var kept = []string{
	"Accept", "Content-Type", "Cookie", "X-Request-Id", "Idempotency-Key", "Traceparent", "X-Csrf-Token", "Range", "If-Match", "X-Forwarder", "Obo", "Proxied", "Te-St", "Upgrade-Insecure-Requests",
	"X-Http-Methods", "Forwarded-By", "Authorization-Info", "Origin",
}

func TestStripRequest(t *testing.T) {
	for _, name := range slices.Concat(droppedFromBoth, droppedFromRequests) {
		for _, spelling := range spellings(name) {
			h := http.Header{spelling: {"a", "b"}, "Accept": {"*/*"}}
			StripRequest(h)
			if len(h) != 1 || h.Get("Accept") == "" {
				t.Errorf("%q stays: %v", spelling, h)
			}
		}
	}
	for _, name := range kept {
		h := http.Header{name: {"a", "b"}}
		StripRequest(h)
		if len(h[name]) != 2 {
			t.Errorf("%s is dropped", name)
		}
	}
}

func TestStripReply(t *testing.T) {
	for _, name := range droppedFromBoth {
		for _, spelling := range spellings(name) {
			h := http.Header{spelling: {"a"}}
			StripReply(h)
			if len(h) != 0 {
				t.Errorf("%q stays", spelling)
			}
		}
	}
	for _, name := range slices.Concat(kept, []string{"Set-Cookie", "Content-Length", "Location", "Www-Authenticate", "X-Forwarded-For"}) {
		h := http.Header{name: {"a", "b"}}
		StripReply(h)
		if len(h[name]) != 2 {
			t.Errorf("%s is dropped", name)
		}
	}
}

func TestStripTrailer(t *testing.T) {
	h := http.Header{"Content-Length": {"1"}, "X-Forwarded-Email": {"a"}, "Transfer-Encoding": {"chunked"}, "Host": {"x"}, "X-Sum": {"1"}, "Authorization": {"x"}}
	StripTrailer(h)
	if len(h) != 1 || h.Get("X-Sum") != "1" {
		t.Errorf("%v", h)
	}
}

// What Connection names is hop-by-hop, however Connection and the names are spelt.
func TestStripNamedInConnection(t *testing.T) {
	for _, connection := range spellings("Connection") {
		for _, value := range []string{"close, X-Secret", "x-secret", " X-SECRET ,, foo", "x_secret", "foo,\tX-Secret"} {
			for _, secret := range []string{"X-Secret", "x-secret", "X_Secret"} {
				for _, strip := range []func(http.Header){StripRequest, StripReply, StripTrailer} {
					h := http.Header{connection: {"keep-alive", value}, secret: {"1"}, "Accept": {"*/*"}}
					strip(h)
					if len(h) != 1 || h.Get("Accept") == "" {
						t.Errorf("%s: %q leaves %v", connection, value, h)
					}
				}
			}
		}
	}
	h := http.Header{"Connection": {"", ",", "foo"}, "Accept": {"*/*"}}
	StripRequest(h)
	if len(h) != 1 {
		t.Errorf("%v", h)
	}
	StripRequest(nil)
	StripReply(nil)
}

func TestRequestID(t *testing.T) {
	own := fixedID("request")
	for value, passed := range map[string]bool{
		"abc": true, "a.b_c:d/e+f=g-1": true, strings.Repeat("a", 128): true,
		"": false, strings.Repeat("a", 129): false, "a b": false, "a\r\nX: y": false, "é": false, "a,b": false, `"a"`: false, "a;b": false,
	} {
		want := own.String()
		if passed {
			want = value
		}
		if got := RequestID(http.Header{HeaderRequestID: {value}}, own); got != want {
			t.Errorf("%q: %q", value, got)
		}
	}
	if got := RequestID(nil, own); got != own.String() {
		t.Errorf("none: %q", got)
	}
}

// Any bytes survive JSON, through all heads (PROTOCOL.md §9).
func TestIsomorphicRoundTrip(t *testing.T) {
	var all []byte
	for b := range 256 {
		if b != 0 && b != '\r' && b != '\n' {
			all = append(all, byte(b))
		}
	}
	r := rand.New(rand.NewPCG(3, 4))
	values := []string{"", "plain", string(all), "\xff", "caf\xc3\xa9", "\xed\xa0\x80", "\xf0\x9f\x98\x80", "\xc0\xae", "\u2028"}
	for range 200 {
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = all[r.IntN(len(all))]
		}
		values = append(values, string(b))
	}
	h := http.Header{"X-Bytes": values, "X-Plain": {"a"}}
	before := maps.Clone(h)
	encoded, err := EncodeHead(&RequestHead{Method: "GET", Path: "/", Header: h, TimeoutMS: 1})
	if err != nil {
		t.Fatal(err)
	}
	request, err := DecodeRequestHead(encoded)
	if err != nil || !slices.Equal(request.Header["X-Bytes"], values) || request.Check() != nil {
		t.Errorf("request: %v", err)
	}
	encoded, err = EncodeHead(&ReplyHead{Status: 200, Header: h})
	if err != nil {
		t.Fatal(err)
	}
	if reply, err := DecodeReplyHead(encoded); err != nil || !slices.Equal(reply.Header["X-Bytes"], values) {
		t.Errorf("reply: %v", err)
	}
	encoded, err = EncodeHead(&End{Trailer: h})
	if err != nil {
		t.Fatal(err)
	}
	if end, err := DecodeEnd(encoded); err != nil || !slices.Equal(end.Trailer["X-Bytes"], values) {
		t.Errorf("end: %v", err)
	}
	if !maps.EqualFunc(h, before, slices.Equal) {
		t.Error("encoding changed the caller's header")
	}
}
