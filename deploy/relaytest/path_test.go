package relaytest_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

// hostile paths, as they would stand in a request line.
var hostilePaths = []string{
	"//evil", "//evil.example/x", "/a//b", "/..", "/../etc/passwd", "/a/../b", "/a/..", "/./a", "/a/.", "/%2e%2e/a", "/%2E%2e/a", "/a/%2e", "/a%2fb",
	"/a%2Fb", "/%2f..", "/a%5cb", "/a%5Cb", `/a\b`, "/a%00b", "/a%0d%0aX:%20y", "/a%0A", "/a%7f", "/a%01", "/%", "/a%2", "/a%zz",
}

// What two servers could read differently is refused, by the Transport and through the sidecar, and reaches nobody.
func TestPathsThatAreNotCanonical(t *testing.T) {
	n, _ := start(t)
	handler := &counter{}
	n.Worker(handler, nil)
	client := n.Publisher(nil)
	send(t, client, "GET", "/").want(t, 200, "")
	server := sidecar(t, client)
	for _, p := range hostilePaths {
		u := &url.URL{Scheme: "http", Host: "middleware", RawPath: p}
		if path, err := url.PathUnescape(p); err == nil {
			u.Path = path
			r := newRequest(t, "GET", "/", nil)
			r.URL = u
			do(client, r).wantCode(t, relay.CodePathNotCanonical)
		}
		if status, text := rawRequest(t, server.Listener.Addr().String(), p); status != 400 {
			t.Errorf("sidecar, %s: %d %s", p, status, text)
		}
	}
	for _, target := range []string{"http://evil.example/", "http://middleware/", "*", "evil.example:443", "a", "?x", ""} {
		if status, text := rawRequest(t, server.Listener.Addr().String(), target); status != 400 && status != 403 {
			t.Errorf("sidecar, target %q: %d %s", target, status, text)
		}
	}
	handler.want(t, 1)
}

// rawRequest sends a request line as it is.
func rawRequest(t *testing.T, address, target string) (status int, text string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-Access-Token: %s\r\nConnection: close\r\n\r\n", target, alice())
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Status
}

// Everything else arrives as it was sent.
func TestPathsArriveAsSent(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		says(r.Method+" "+r.RequestURI+" "+r.URL.EscapedPath()+"?"+r.URL.RawQuery)(w, r)
	}), nil)
	client := n.Publisher(nil)
	server := sidecar(t, client)
	via := sidecarClient(t)
	for _, target := range []string{
		"/", "/a", "/a/", "/a/b/c", "/a%20b", "/%C3%A4", "/a;v=1", "/a:b@c", "/a...b", "/..a", "/a,b+c", "/a%25b",
		"/?", "/?x=1;2", "/?x=%2f..%00&y=//", "/?q=a+b%20c&&=", "/a?x=%zz", "/?http://evil/", "/a%3Fb",
	} {
		for name, rt := range map[string]http.RoundTripper{"http://middleware": client, server.URL: via.Transport} {
			r, err := http.NewRequestWithContext(t.Context(), "PUT", name+target, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Forwarded-Access-Token", alice())
			want := strings.TrimSuffix(target, "?")
			path, query, _ := strings.Cut(want, "?")
			do(rt, r).want(t, 200, "PUT "+want+" "+path+"?"+query)
		}
	}
}

// Bytes over 0x7F, which clients like curl send as they are, reach every app as what they stand for.
func TestBytesOfTargetsAreEncoded(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { says(r.RequestURI)(w, r) }), nil)
	client := n.Publisher(nil)
	server := sidecar(t, client)
	via := sidecarClient(t)
	for target, want := range map[string]string{
		"/caf\xc3\xa9?q=caf\xc3\xa9&r=%C3%A9": "/caf%C3%A9?q=caf%C3%A9&r=%C3%A9",
		"/caf\xe9?q=\xe9t\xe9":                "/caf%E9?q=%E9t%E9",
	} {
		for name, rt := range map[string]http.RoundTripper{"http://middleware": client, server.URL: via.Transport} {
			r, err := http.NewRequestWithContext(t.Context(), "GET", name+target, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Forwarded-Access-Token", alice())
			do(rt, r).want(t, 200, want)
		}
	}
}

// An offer of HTTP/2 is passed over, with its settings, which are for the hop.
func TestOfferOfHTTP2(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(seesHeaders), nil)
	client := n.Publisher(nil)
	server := sidecar(t, client)
	for _, via := range []string{"transport", "sidecar"} {
		r := newRequest(t, "GET", "/", nil)
		var rt http.RoundTripper = client
		if via == "sidecar" {
			r.URL.Host, r.Host = server.Listener.Addr().String(), ""
			rt = sidecarClient(t).Transport
		}
		r.Header.Set("Connection", "Upgrade, HTTP2-Settings")
		r.Header.Set("Upgrade", "h2c")
		r.Header.Set("HTTP2-Settings", "AAMAAABkAAQAAP__")
		r.Header.Set("X-Kept", "yes")
		seen := headersSeen(t, do(rt, r))
		if seen.Get("X-Kept") != "yes" || seen.Get("Upgrade")+seen.Get("Connection")+seen.Get("Http2-Settings") != "" {
			t.Errorf("%s: %v", via, seen)
		}
		r.Header.Set("Upgrade", "h2c, websocket")
		if got := do(rt, r); !errors.Is(got.err, relay.CodeUpgradeUnsupported) && (got.err != nil || got.StatusCode != http.StatusNotImplemented) {
			t.Errorf("%s: a WebSocket beside it: %s", via, got)
		}
	}
}

// Methods pass as they are; CONNECT, upgrades and what is no method do not.
func TestMethods(t *testing.T) {
	n, _ := start(t)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Saw", r.Method) }), nil)
	client := n.Publisher(nil)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "M-SEARCH"} {
		got := send(t, client, method, "/")
		if got.err != nil || got.Header.Get("X-Saw") != method {
			t.Errorf("%s: %s", method, got)
		}
	}
	for _, method := range []string{"CONNECT", strings.Repeat("A", 33)} {
		send(t, client, method, "/").wantCode(t, relay.CodeBadRequest)
	}
	r := newRequest(t, "GET", "/", nil)
	r.Method = "A B"
	do(client, r).wantCode(t, relay.CodeBadRequest)
	r = newRequest(t, "GET", "/", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	do(client, r).wantCode(t, relay.CodeUpgradeUnsupported, "server-sent events")
}
