package relaytest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/worker"
)

// seesHeaders answers with the request's headers.
func seesHeaders(w http.ResponseWriter, r *http.Request) {
	_ = json.NewEncoder(w).Encode(r.Header)
}

func headersSeen(t *testing.T, got reply) http.Header {
	t.Helper()
	h := http.Header{}
	if got.err != nil || json.Unmarshal([]byte(got.body), &h) != nil {
		t.Fatalf("%s", got)
	}
	return h
}

// spellings of a header name that some server reads as that header.
func spellings(name string) []string {
	return []string{name, strings.ToLower(name), strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), strings.ToLower(strings.ReplaceAll(name, "-", "_")), strings.Replace(name, "-", "_", 1)}
}

var dropped = []string{
	"Connection", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Host", "Expect",
	"Authorization", "Forwarded", "X-Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Forwarded-Email",
	"X-Forwarded-User", "X-Forwarded-Preferred-Username", "X-Forwarded-Groups", "X-Forwarded-Anything", "X-Real-Ip", "Obo-Id", "Obo-User", "X-Http-Method-Override", "X-Http-Method",
	"X-Method-Override",
}

// Nothing that a caller sends can pass for what platform and worker say, in any spelling, twice, or named in Connection.
func TestSpoofedHeadersAreDropped(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(seesHeaders), nil)
	client := n.Publisher(nil)
	token := alice()
	for _, name := range dropped {
		for _, spelling := range spellings(name) {
			r := newRequest(t, "POST", "/", nil)
			r.Header[spelling] = []string{"spoofed-1", "spoofed-2"}
			if name == "Te" || name == "Host" { // one word: the name itself only
				r.Header[spelling] = []string{"spoofed-1"}
			}
			r.Header.Set("X-Kept", "yes")
			seen := headersSeen(t, do(client, r))
			if seen.Get("X-Kept") != "yes" || seen.Get("X-Forwarded-Access-Token") != token && len(seen.Get("X-Forwarded-Access-Token")) != len(token) {
				t.Errorf("%s: lost what belongs there: %v", spelling, seen)
			}
			for header, values := range seen {
				if slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "spoofed") }) {
					t.Errorf("%s arrived as %s: %v", spelling, header, values)
				}
			}
		}
	}
}

func TestTokenInAnotherSpellingIsDropped(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(seesHeaders), nil)
	client := n.Publisher(nil)
	for _, spelling := range spellings("X-Forwarded-Access-Token")[1:] {
		r := newRequest(t, "POST", "/", nil)
		r.Header[spelling] = []string{"spoofed"}
		seen := headersSeen(t, do(client, r))
		if len(seen["X-Forwarded-Access-Token"]) != 1 || len(seen[spelling]) != 0 {
			t.Errorf("%s: %v", spelling, seen)
		}
	}
}

// What Connection names is hop by hop, in every spelling, and cannot take away what the worker itself sets.
func TestConnectionNames(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(seesHeaders), nil)
	client := n.Publisher(nil)
	for _, connection := range []map[string][]string{ // not http.Header: one name is not canonical, on purpose
		{"Connection": {"X-Hop, close"}},
		{"Connection": {"close", " x-hop "}},
		{"connection": {"X_HOP"}},
		{"Connection": {"X-Hop, X-Forwarded-Access-Token, X-Request-Id, X-Forwarded-Email"}},
	} {
		r := newRequest(t, "POST", "/", nil)
		for name, values := range connection {
			r.Header[name] = values
		}
		r.Header["X-Hop"] = []string{"spoofed"}
		r.Header["X_hop"] = []string{"spoofed"}
		seen := headersSeen(t, do(client, r))
		for name := range seen {
			if strings.EqualFold(name, "connection") || strings.EqualFold(name, "x-hop") || strings.EqualFold(name, "x_hop") {
				t.Errorf("%v: %v", connection, seen)
			}
		}
		if seen.Get("X-Forwarded-Access-Token") == "" || seen.Get("X-Request-Id") == "" {
			t.Errorf("%v took away what the worker sets: %v", connection, seen)
		}
	}
}

// The same through the sidecar, with a real connection's own headers around it.
func TestSidecarHeaders(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(seesHeaders), nil)
	server := sidecar(t, n.Publisher(nil))
	r, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{
		"X-Forwarded-Access-Token": {alice()}, "X-Forwarded-For": {"10.0.0.1"}, "X-Forwarded-Email": {"boss@example.com"}, "Cookie": {"a=b"},
		"Accept": {"text/plain", "text/html"}, "X-Request-Id": {"caller-1"}, "Content-Type": {"text/x-test"}, "Te": {"trailers"},
	}
	seen := headersSeen(t, do(sidecarClient(t).Transport, r))
	for name, want := range map[string][]string{
		"X-Forwarded-For": nil, "X-Forwarded-Email": nil, "Te": nil, "Cookie": {"a=b"}, "Accept": {"text/plain", "text/html"},
		"X-Request-Id": {"caller-1"}, "Content-Type": {"text/x-test"}, "Content-Length": nil,
	} {
		if !slices.Equal(seen[name], want) {
			t.Errorf("%s: %v, want %v", name, seen[name], want)
		}
	}
}

func TestRequestID(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call, _ := worker.CallFrom(r.Context())
		says(r.Header.Get("X-Request-Id")+" "+call.ID.String())(w, r)
	}), nil)
	client := n.Publisher(nil)
	for given, kept := range map[string]bool{"abc-1": true, strings.Repeat("a", 128): true, "": false, strings.Repeat("a", 129): false, "a b": false, "a\"b": false, "<x>": false} {
		r := newRequest(t, "POST", "/", nil)
		r.Header.Set("X-Request-Id", given)
		got := do(client, r)
		id := got.Header.Get("Obo-Id")
		want := given
		if !kept {
			want = id
		}
		got.want(t, 200, want+" "+id)
	}
}

// A reply's own headers arrive, with every byte; what belongs to the hop, or to the relay, does not.
func TestReplyHeaders(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h["Set-Cookie"] = []string{"a=1", "b=2"}
		h["X-Bytes"] = []string{"\xff\x80 ä"}
		h["Location"] = []string{"http://evil.example/"}
		for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Transfer-Encoding", "Upgrade", "Obo-Id", "obo_id", "X-Hop"} {
			h[name] = append(h[name], "spoofed")
		}
		h["Connection"] = []string{"x-hop"}
		w.WriteHeader(307)
		_, _ = io.WriteString(w, "moved")
	}), nil)
	client := n.Publisher(nil)
	got := send(t, client, "GET", "/")
	got.want(t, 307, "moved")
	for name, want := range map[string][]string{
		"Set-Cookie": {"a=1", "b=2"}, "X-Bytes": {"\xff\x80 ä"}, "Location": {"http://evil.example/"}, "Content-Length": {"5"},
		"Connection": nil, "Keep-Alive": nil, "Proxy-Authenticate": nil, "Transfer-Encoding": nil, "Upgrade": nil, "obo_id": nil, "X-Hop": nil,
	} {
		if !slices.Equal(got.Header[name], want) {
			t.Errorf("%s: %q, want %q", name, got.Header[name], want)
		}
	}
	if id := got.Header["Obo-Id"]; len(id) != 1 || len(id[0]) != 26 {
		t.Errorf("Obo-Id %q", id)
	}
}
