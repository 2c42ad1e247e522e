package sandbox

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestABrowserBringsItsPerson(t *testing.T) {
	s := newStage(t, echo(), nil)
	browser := newBrowser(t)
	signIn(t, browser, s.door+"/", "alice@example.com")

	seen := decode(t, get(t, browser, s.door+"/", "X-Forwarded-Email", "ceo@example.com",
		"X-Forwarded-Email", "cfo@example.com", "Connection", "X-Forwarded-Email, X-Forwarded-User, X-Real-Ip",
		"x-forwarded-access-token", "forged", "X-Forwarded-For", "6.6.6.6", "X-Custom", "x", "Cookie", "own=1").Body)
	host := strings.TrimPrefix(s.door, "http://")
	for name, want := range map[string]any{
		"Host": host, "X-Forwarded-Host": host, "X-Forwarded-Email": "alice@example.com",
		"X-Forwarded-User": "1001@" + s.ws.ID(), "X-Forwarded-Preferred-Username": "alice@example.com",
		"X-Real-Ip": "127.0.0.1", "X-Forwarded-For": nil, "X-Custom": nil, "Cookie": "own=1", "Authorization": nil,
	} {
		if seen[name] != want {
			t.Errorf("%s: %v, want %v", name, seen[name], want)
		}
	}
	token, _ := seen["X-Forwarded-Access-Token"].(string)
	c, err := s.ws.mint.check(token, s.ws.ID())
	app, _ := s.ws.App("ui")
	if err != nil || c.Subject != "alice@example.com" || c.ClientID != app.ClientID || !c.has("sql") || c.has("other") {
		t.Errorf("token %+v: %v", c, err)
	}
	again := decode(t, get(t, browser, s.door+"/").Body)
	if again["X-Forwarded-Access-Token"] != token || again["X-Request-Id"] == seen["X-Request-Id"] || seen["X-Request-Id"] == nil {
		t.Errorf("%v", again)
	}
	// Loaded again near the token's end, the page gets a fresh one.
	s.clock.Advance(56 * time.Minute)
	fresh := decode(t, get(t, browser, s.door+"/").Body)["X-Forwarded-Access-Token"]
	if fresh == token || fresh == nil {
		t.Error("no fresh token")
	}
}

func TestWithoutUserAuthorizationThereIsNoToken(t *testing.T) {
	ws, err := New(Config{Users: []User{{UserName: "alice@example.com"}}, Apps: []App{{Name: "ui"}}})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, ws.Listen)
	upstream := httptest.NewServer(echo())
	t.Cleanup(upstream.Close)
	front, err := NewFront(FrontConfig{Workspace: ws, App: "ui", Upstream: upstream.URL, CarryUser: true})
	if err != nil {
		t.Fatal(err)
	}
	seen := decode(t, signIn(t, newBrowser(t), serve(t, front.Listen).URL(), "alice@example.com").Body)
	if seen["X-Forwarded-Email"] != "alice@example.com" || seen["X-Forwarded-Access-Token"] != nil {
		t.Errorf("%v", seen)
	}
}

// What the user of 1-problem met: a bearer call between apps arrives, as a
// principal without a token, and nothing else that was sent crosses.
func TestACallBetweenAppsLosesThePerson(t *testing.T) {
	s := newStage(t, echo(), nil)
	alice := mustToken(t, s.ws, "alice@example.com", TokenOptions{App: "ui"})
	robot := mustToken(t, s.ws, "robot", TokenOptions{})
	for token, want := range map[string]map[string]any{
		alice: {"X-Forwarded-Preferred-Username": "alice@example.com", "X-Forwarded-Email": "alice@example.com"},
		robot: {"X-Forwarded-Preferred-Username": "robot", "X-Forwarded-Email": nil},
	} {
		resp := get(t, newProgram(t), s.door+"/api/groups", "Authorization", "Bearer "+token,
			"X-User-Token", token, "X-Forwarded-Access-Token", token, "Accept", "application/json")
		seen := decode(t, resp.Body)
		for _, lost := range []string{"Authorization", "X-User-Token", "X-Forwarded-Access-Token"} {
			if seen[lost] != nil {
				t.Errorf("%s crossed", lost)
			}
		}
		if seen["Accept"] != "application/json" {
			t.Errorf("a standard header was lost: %v", seen)
		}
		for name, value := range want {
			if seen[name] != value {
				t.Errorf("%s: %v, want %v", name, seen[name], value)
			}
		}
	}
}

func TestCarryUser(t *testing.T) {
	s := newStage(t, echo(), func(c *FrontConfig) { c.CarryUser = true })
	alice := mustToken(t, s.ws, "alice@example.com", TokenOptions{})
	robot := mustToken(t, s.ws, "robot", TokenOptions{})
	for _, c := range []struct {
		path, token string
		want        any
	}{
		{"/api/x", alice, alice}, {"/x", alice, nil}, {"/apis", alice, nil}, {"/api/x", robot, nil},
	} {
		seen := decode(t, get(t, newProgram(t), s.door+c.path, "Authorization", "Bearer "+c.token).Body)
		if seen["X-Forwarded-Access-Token"] != c.want {
			t.Errorf("%s: carried is %t, want %t", c.path, seen["X-Forwarded-Access-Token"] != nil, c.want != nil)
		}
	}
}

func TestWhoIsNotKnownIsSentToSignIn(t *testing.T) {
	s := newStage(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("reached the app") }), nil)
	if err := s.ws.SetActive("bob@example.com", false); err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string][2]string{
		"nothing":          {"X", "x"},
		"garbage":          {"Authorization", "Bearer garbage"},
		"basic":            {"Authorization", "Basic YTpi"},
		"expired":          {"Authorization", "Bearer " + mustToken(t, s.ws, "alice@example.com", TokenOptions{Lifetime: -1})},
		"inactive":         {"Authorization", "Bearer " + mustToken(t, s.ws, "bob@example.com", TokenOptions{})},
		"unknown session":  {"Cookie", "sandbox_session_ui=x"},
		"spoofed identity": {"X-Forwarded-Email", "alice@example.com"},
	} {
		resp := get(t, newProgram(t), s.door+"/api/x", header[0], header[1])
		if to := resp.Header.Get("Location"); resp.StatusCode != 302 || !strings.HasPrefix(to, s.ws.URL()+"/oidc/v1/authorize?") {
			t.Errorf("%s: %s to %q", name, resp.Status, to)
		}
	}
	// A program that follows redirects ends at HTML instead of JSON.
	resp := get(t, newBrowser(t), s.door+"/api/x")
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
}

func TestASlowAnswerIsCut(t *testing.T) {
	left := make(chan struct{}, 2)
	app := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/begun" {
			_, _ = io.WriteString(rw, "first")
			_ = http.NewResponseController(rw).Flush()
		}
		<-r.Context().Done()
		left <- struct{}{}
	})
	s := newStage(t, app, func(c *FrontConfig) { c.CutAfter = 300 * time.Millisecond })
	robot := "Bearer " + mustToken(t, s.ws, "robot", TokenOptions{})

	resp := get(t, newProgram(t), s.door+"/silent", "Authorization", robot)
	if body := readAll(t, resp); resp.StatusCode != 504 || !strings.Contains(body, "Upstream request timeout") {
		t.Errorf("%s %s", resp.Status, body)
	}
	<-left
	resp = get(t, newProgram(t), s.door+"/begun", "Authorization", robot)
	if body, err := io.ReadAll(resp.Body); err == nil || resp.StatusCode != 200 || string(body) != "first" {
		t.Errorf("%s %q %v", resp.Status, body, err)
	}
	<-left
}

func TestAnAppThatIsDown(t *testing.T) {
	s := newStage(t, echo(), func(c *FrontConfig) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.Upstream = "http://" + l.Addr().String()
		_ = l.Close()
	})
	resp := get(t, newProgram(t), s.door+"/", "Authorization", "Bearer "+mustToken(t, s.ws, "robot", TokenOptions{}))
	if body := readAll(t, resp); resp.StatusCode != 502 || !strings.Contains(body, "App ui is not running") {
		t.Errorf("%s %s", resp.Status, body)
	}
}

func TestEventsArriveAsTheyAreSent(t *testing.T) {
	next := make(chan struct{})
	app := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(rw, "one\n")
		_ = http.NewResponseController(rw).Flush()
		<-next
		_, _ = io.WriteString(rw, "two\n")
	})
	s := newStage(t, app, nil)
	resp := get(t, newProgram(t), s.door+"/", "Authorization", "Bearer "+mustToken(t, s.ws, "robot", TokenOptions{}))
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); line != "one\n" {
		t.Errorf("%q %v", line, err)
	}
	close(next)
	if line, err := lines.ReadString('\n'); line != "two\n" {
		t.Errorf("%q %v", line, err)
	}
}

func TestWebSocketsPassAndAreNotCut(t *testing.T) {
	handshake := make(chan http.Header, 1)
	app := http.NewServeMux()
	app.HandleFunc("/{$}", func(http.ResponseWriter, *http.Request) {}) // where signing in ends; being cut does not matter
	app.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	app.HandleFunc("/_stcore/stream", func(rw http.ResponseWriter, r *http.Request) {
		handshake <- r.Header.Clone()
		conn, buf, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		_, _ = io.Copy(conn, buf) // frames are bytes like others to a proxy
	})
	s := newStage(t, app, func(c *FrontConfig) { c.CutAfter = 50 * time.Millisecond })
	browser := newBrowser(t)
	signIn(t, browser, s.door+"/", "alice@example.com")

	resp := get(t, browser, s.door+"/_stcore/stream", "Connection", "keep-alive, Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "X-Custom", "x")
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp.Status)
	}
	seen := <-handshake
	if seen.Get("X-Forwarded-Access-Token") == "" || seen.Get("Sec-WebSocket-Key") == "" || seen.Get("X-Custom") != "" {
		t.Errorf("%v", seen)
	}
	conn := resp.Body.(io.ReadWriteCloser)
	echoed := make([]byte, 4)
	for range 2 {
		// That this is cut tells that the WebSocket is older than the limit.
		if plain := get(t, browser, s.door+"/silent"); plain.StatusCode != http.StatusGatewayTimeout {
			t.Fatal(plain.Status)
		}
		if _, err := io.WriteString(conn, "ping"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, echoed); err != nil || string(echoed) != "ping" {
			t.Fatalf("%q %v", echoed, err)
		}
	}
	// Closing the server does not wait for WebSockets, it ends them.
	if err := s.entry.Close(); err != nil {
		t.Error(err)
	}
	if n, err := conn.Read(echoed); err == nil {
		t.Errorf("read %d bytes from a closed server", n)
	}
}

// A query goes to the app as it came, also where net/http's parser would not read it.
func TestAQueryPassesAsItIs(t *testing.T) {
	uris := make(chan string, 1)
	s := newStage(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { uris <- r.URL.RequestURI() }), nil)
	browser := newBrowser(t)
	signIn(t, browser, s.door+"/", "alice@example.com")
	<-uris
	const uri = "/x?a=1;b=2&c=%zz"
	get(t, browser, s.door+uri)
	if got := <-uris; got != uri {
		t.Errorf("the app saw %s", got)
	}
}
