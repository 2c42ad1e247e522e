package worker

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFrontDropsWhatCouldBeSpoofed(t *testing.T) {
	s := newStage(t, nil, nil, nil)
	resp, _ := s.asAlice("GET /public/x", "X-Forwarded-Email: ceo@example.com", "x-forwarded-email: ceo@example.com", "X_FORWARDED_EMAIL: ceo@example.com",
		"X-Forwarded_User: 1", "X-Forwarded-Preferred-Username: ceo", "X-Forwarded-Groups: admins", "X-Forwarded-Prefix: /admin", "Forwarded: for=1",
		"x_forwarded_access_token: ceo-token", "Authorization: Bearer ceo-token", "X-HTTP-Method-Override: DELETE", "X_Http_Method: DELETE", "X-Method-Override: PUT",
		"SCRIPT_NAME: /public", "PATH_INFO: /admin", "X-Original-URL: /admin", "X-Rewrite-Url: /admin", "Obo-Id: 1", "X_Real_Ip: 1.2.3.4", "x_forwarded_host: evil",
		"Connection: close, X-Kept, Host", "X-Kept: no", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", "Proxy-Authorization: x", "TE: trailers", "Keep-Alive: 5", "", "")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("got %s", resp.Status)
	}
	r := s.requests()[0]
	var names []string
	for name, values := range r.Header {
		names = append(names, name)
		if text := strings.Join(values, " "); strings.Contains(text, "ceo") || strings.Contains(text, "admin") || strings.Contains(text, "DELETE") || strings.Contains(text, "evil") {
			t.Errorf("%s: %s", name, text)
		}
	}
	slices.Sort(names)
	want := []string{"Http2-Settings", "X-Forwarded-Access-Token", "X-Forwarded-Email", "X-Forwarded-Preferred-Username", "X-Forwarded-User", "X-Request-Id"}
	if !slices.Equal(names, want) {
		t.Errorf("the app got %q, want %q", names, want)
	}
	if r.Header.Get("X-Forwarded-Email") != "alice@example.com" || r.Header.Get("X-Request-Id") != s.record().RequestID {
		t.Errorf("the app got %v", r.Header)
	}
}

// echoUpgraded is an app that takes WebSockets, and answers in capitals.
func echoUpgraded(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || r.Header.Get("Sec-Websocket-Key") == "" || r.Header.Get("X-Forwarded-Email") == "" {
		http.Error(w, "no WebSocket", http.StatusBadRequest)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	_ = rw.Flush()
	for {
		line, err := rw.ReadString('\n')
		if err != nil {
			return
		}
		_, _ = rw.WriteString(strings.ToUpper(line))
		_ = rw.Flush()
	}
}

func (s *stage) openWebSocket(path string, more ...string) (net.Conn, *bufio.Reader, *http.Response) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	lines := append([]string{"GET " + path + " HTTP/1.1", "Host: app.example.com", "Origin: https://app.example.com", "Upgrade: WebSocket", "Connection: keep-alive, Upgrade",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"}, more...)
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		s.t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, &http.Request{Method: "GET"})
	if err != nil {
		s.t.Fatal(err)
	}
	return conn, in, resp
}

func TestFrontPassesWebSockets(t *testing.T) {
	s := newStage(t, rules(t, "GET /_stcore/stream = analysts"), echoUpgraded, nil)
	token := "X-Forwarded-Access-Token: " + aliceToken(t).Reveal()
	for name, refused := range map[string]struct {
		path string
		more []string
		want int
	}{
		"no token": {"/_stcore/stream", nil, 401}, "not allowed": {"/admin", []string{token}, 403}, "path": {"/x/../_stcore/stream", []string{token}, 400},
	} {
		if _, _, resp := s.openWebSocket(refused.path, refused.more...); resp.StatusCode != refused.want {
			t.Errorf("%s: got %s", name, resp.Status)
		}
	}
	if n := len(s.requests()); n != 0 {
		t.Errorf("%d requests reached the app", n)
	}
	conn, in, resp := s.openWebSocket("/_stcore/stream", token, "X-Forwarded-Email: ceo@example.com")
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %s", resp.Status)
	}
	for range 3 {
		if _, err := io.WriteString(conn, "hello\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := in.ReadString('\n'); err != nil || line != "HELLO\n" {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	r := s.requests()[0]
	if r.Header.Get("X-Forwarded-Email") != "alice@example.com" || r.Header.Get("Origin") != "https://app.example.com" || r.Host != "app.example.com" {
		t.Errorf("the app got %v", r.Header)
	}
	s.stop() // ends it, and waits
	if _, err := in.ReadString('\n'); err == nil {
		t.Error("a WebSocket outlives the front door")
	}
	var open AuditRecord
	for _, a := range s.kept.take() {
		if a.Decision == AuditAllowed {
			open = a
		}
	}
	if open.Status != http.StatusSwitchingProtocols || open.Rule != "GET /_stcore/stream" {
		t.Errorf("audit: %+v", open)
	}
}

// An upgrade to another protocol is ignored, and one with a body is none.
func TestFrontIgnoresOtherUpgrades(t *testing.T) {
	s := newStage(t, nil, nil, nil)
	for name, lines := range map[string][]string{
		"h2c":       {"GET / HTTP/1.1", "Upgrade: h2c", "Connection: Upgrade, close", "HTTP2-Settings: AAMAAABkAAQAAP__"},
		"two":       {"GET / HTTP/1.1", "Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade, close"},
		"a list":    {"GET / HTTP/1.1", "Upgrade: websocket, h2c", "Connection: Upgrade, close"},
		"POST":      {"POST / HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade, close"},
		"not asked": {"GET / HTTP/1.1", "Upgrade: websocket", "Connection: close"},
		"underline": {"GET / HTTP/1.1", "Upgrade: websocket", "Connection_: upgrade", "Connection: close"},
	} {
		resp, _ := s.send(append(lines, "Host: a", "X-Forwarded-Access-Token: "+aliceToken(t).Reveal(), "", "")...)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: got %s", name, resp.Status)
		}
		for _, r := range s.requests() {
			if len(r.Header["Upgrade"]) > 0 || len(r.Header["Connection"]) > 0 {
				t.Errorf("%s: the app got %v", name, r.Header)
			}
		}
		s.record()
	}
}

// Servers may add trailers to the header, so none may cross that could be spoofed in the header.
func TestFrontDropsTrailers(t *testing.T) {
	var trailer http.Header
	s := newStage(t, nil, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		trailer = r.Trailer
	}, nil)
	resp, _ := s.asAlice("POST /public/x", "Transfer-Encoding: chunked", "Trailer: X-Forwarded-Email", "Connection: close", "",
		"4", "body", "0", "X-Forwarded-Email: ceo@example.com", "X-Forwarded-Access-Token: ceo-token", "", "")
	if resp.StatusCode != http.StatusOK || len(trailer) != 0 {
		t.Errorf("got %s, the app got the trailers %v", resp.Status, trailer)
	}
}
