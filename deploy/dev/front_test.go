package dev

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
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
)

// stand is a front proxy before an app that keeps what it received.
type stand struct {
	t     *testing.T
	front *httptest.Server
	got   chan *http.Request
	token string
}

func newStand(t *testing.T, fails error) *stand {
	s := &stand{t: t, got: make(chan *http.Request, 1), token: relaytest.Token("alice", time.Now().Add(time.Hour))}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.got <- r
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.WriteString(w, "the app")
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(conn, conn)
	}))
	t.Cleanup(app.Close)
	base, err := url.Parse(app.URL)
	if err != nil {
		t.Fatal(err)
	}
	tokens := KeepTokens(func(context.Context, bool) (relay.Token, error) {
		if fails != nil {
			return relay.Token{}, fails
		}
		return relay.NewToken(s.token)
	})
	f := newFront(base, sandbox.Person{User: "7@42", UserName: "alice@example.com", Email: "alice@example.com"}, tokens, slog.New(slog.DiscardHandler))
	t.Cleanup(f.close)
	s.front = httptest.NewServer(f)
	t.Cleanup(s.front.Close)
	return s
}

// send sends a request with header lines as they stand there.
func (s *stand) send(method string, lines ...string) (status int, body string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.front.URL+"/x?y=1;z=%zz", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header[name] = append(r.Header[name], strings.ReplaceAll(value, "SELF", s.front.Listener.Addr().String()))
	}
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestFrontTellsTheAppWhoIsCalling(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	status, body := s.send("GET", "X-Forwarded-Access-Token: mallory", "x_forwarded_email: mallory@example.com", "X-Forwarded-User: mallory", "Authorization: Bearer mallory", "X-Real-Ip: 6.6.6.6", "X-Custom: kept", "Cookie: a=b")
	if status != 200 || body != "the app" {
		t.Fatal(status, body)
	}
	r := <-s.got
	address := s.front.Listener.Addr().String()
	for name, want := range map[string]string{
		"X-Forwarded-Access-Token": s.token, "X-Forwarded-Email": "alice@example.com", "X-Forwarded-User": "7@42",
		"X-Forwarded-Preferred-Username": "alice@example.com", "X-Forwarded-Host": address, "X-Real-Ip": "127.0.0.1",
		"X-Custom": "kept", "Cookie": "a=b", "Authorization": "",
	} {
		if got := strings.Join(r.Header[name], ","); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if r.Host != address || len(r.Header.Get("X-Request-Id")) != 36 || r.URL.RequestURI() != "/x?y=1;z=%zz" {
		t.Errorf("host %s, id %s, uri %s", r.Host, r.Header.Get("X-Request-Id"), r.URL.RequestURI())
	}
	for name, values := range r.Header {
		if strings.Contains(fmt.Sprint(values), "mallory") {
			t.Errorf("%s: %v reached the app", name, values)
		}
	}
}

// To the front proxy everybody is the person, so another page in the person's browser must not be served.
func TestFrontRefusesOtherPages(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	const navigation = "Sec-Fetch-Mode: navigate"
	for name, test := range map[string]struct {
		method string
		lines  []string
		want   int
	}{
		"no browser":                   {"POST", nil, 200},
		"localhost":                    {"GET", []string{"Host: localhost:8001"}, 200},
		"own page":                     {"POST", []string{"Origin: http://SELF", "Sec-Fetch-Site: same-origin"}, 200},
		"address bar":                  {"GET", []string{"Sec-Fetch-Site: none", navigation, "Sec-Fetch-Dest: document"}, 200},
		"link on another page":         {"GET", []string{"Sec-Fetch-Site: cross-site", navigation, "Sec-Fetch-Dest: document"}, 200},
		"DNS rebinding":                {"GET", []string{"Host: evil.example"}, 403},
		"DNS rebinding with the port":  {"GET", []string{"Host: evil.example:8001"}, 403},
		"form of another page":         {"POST", []string{"Origin: http://evil.example"}, 403},
		"page without an origin":       {"POST", []string{"Origin: null"}, 403},
		"page on another port":         {"GET", []string{"Origin: http://127.0.0.1:1"}, 403},
		"https page of the same name":  {"GET", []string{"Origin: https://SELF"}, 403},
		"two origins":                  {"GET", []string{"Origin: http://SELF", "Origin: http://evil.example"}, 403},
		"image on another page":        {"GET", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"}, 403},
		"frame on another page":        {"GET", []string{"Sec-Fetch-Site: cross-site", navigation, "Sec-Fetch-Dest: iframe"}, 403},
		"form of another port":         {"POST", []string{"Sec-Fetch-Site: same-site", navigation, "Sec-Fetch-Dest: document"}, 403},
		"WebSocket of another page":    {"GET", []string{"Origin: http://evil.example", "Connection: Upgrade", "Upgrade: websocket"}, 403},
		"preflight of another page":    {"OPTIONS", []string{"Origin: http://evil.example", "Access-Control-Request-Method: PUT"}, 403},
		"script of a page on the port": {"GET", []string{"Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"}, 403},
	} {
		status, body := s.send(test.method, test.lines...)
		if status != test.want {
			t.Errorf("%s: %d %s, want %d", name, status, body, test.want)
		}
		select {
		case <-s.got:
			if test.want != 200 {
				t.Errorf("%s: it reached the app", name)
			}
		default:
		}
	}
}

func TestFrontPassesWebSockets(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	address := s.front.Listener.Addr().String()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /_stcore/stream HTTP/1.1\r\nHost: %s\r\nOrigin: http://%[1]s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", address)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	defer resp.Body.Close()
	if r := <-s.got; r.Header.Get("X-Forwarded-Access-Token") != s.token || r.Header.Get("Sec-Websocket-Key") == "" {
		t.Error("the app's side of the WebSocket lacks the token or the handshake")
	}
	fmt.Fprintln(conn, "ping")
	if line, err := in.ReadString('\n'); err != nil || line != "ping\n" {
		t.Error(line, err)
	}
}

func TestFrontWithoutATokenSaysWhatToDo(t *testing.T) {
	t.Parallel()
	s := newStand(t, errors.New("sign in with databricks auth login"))
	if status, body := s.send("GET"); status != http.StatusBadGateway || !strings.Contains(body, "databricks auth login") {
		t.Error(status, body)
	}
}
