package publisher

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// Whatever bytes come to the sidecar: only a name of loopback and no browser passes its guard, and what would be relayed
// is a head that the worker accepts, for the path that was asked for.
func FuzzSidecar(f *testing.F) {
	token := testJWT("alice", time.Now().Add(time.Hour))
	for _, request := range []string{
		"GET /a?q=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer $TOKEN\r\nContent-Length: 5\r\n\r\nhello",
		"POST /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer $TOKEN\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
		"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: null\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: [::1]:1\r\nSec-Fetch-Site: cross-site\r\nX-Forwarded-Access-Token: $TOKEN\r\nContent-Length: 0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: 0::1\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n", "GET / HTTP/1.1\r\nHost: [127.0.0.1]:1\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [::1%25lo]\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"GET /a/../b HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n", "GET /%2e%2e/b HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"GET /{a}|%7c HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n", "GET //a HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Access-Token: $TOKEN\r\nx_forwarded_email: eve\r\nObo-Timeout: 1e3\r\nConnection: X-A\r\nX-A: 1\r\nX-Bytes: \xe9\r\n\r\n",
		"GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\r\n",
	} {
		f.Add([]byte(request))
	}
	var transport *Transport
	sidecar := newTestSidecar(f, func(c *SidecarConfig) { transport = c.Transport })
	var seen *http.Request
	var fault *relay.Error
	var made *call
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if seen == nil {
			seen = r.Clone(context.Background())
			asked := seen.Clone(context.Background())
			asked.URL.Host, asked.Body, asked.ContentLength = "middleware", http.NoBody, 0
			made, fault = transport.newCall(asked)
		}
		sidecar.ServeHTTP(w, r)
	}))
	server.Config.DisableGeneralOptionsHandler = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	f.Cleanup(server.Close)
	f.Fuzz(func(t *testing.T, raw []byte) {
		seen, made, fault = nil, nil, nil
		answer := sendRaw(t, server.Listener.Addr().String(), bytes.ReplaceAll(raw, []byte("$TOKEN"), []byte(token)))
		if bytes.Contains(answer, []byte(token)) {
			t.Errorf("the answer shows the token: %q", answer)
		}
		if seen == nil {
			return // net/http refused it
		}
		if made != nil {
			checkCall(t, made, seen)
		} else if fault == nil {
			t.Error("no call and no fault")
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), &http.Request{Method: seen.Method})
		if err != nil {
			t.Fatalf("the answer cannot be read: %q", answer)
		}
		var p relay.Problem
		if seen.Method != http.MethodHead && json.NewDecoder(resp.Body).Decode(&p) != nil {
			t.Fatalf("the answer is no problem: %q", answer)
		}
		_, origin := seen.Header["Origin"]
		_, fetch := seen.Header["Sec-Fetch-Site"]
		if (origin || fetch || !loopbackName(seen.Host)) && (resp.StatusCode != http.StatusForbidden || p.Code != relay.CodeBrowserRefused && seen.Method != http.MethodHead) {
			t.Errorf("Host %q, Origin %v: answered with %d %s", seen.Host, origin, resp.StatusCode, p.Code)
		}
		if p.Code != "" && (p.Code.Info().Status != resp.StatusCode || p.Code == relay.CodeInternal) {
			t.Errorf("status %d of %s", resp.StatusCode, p.Code)
		}
	})
}

// loopbackName is what the sidecar's Host may be, written another way.
func loopbackName(host string) bool {
	u, err := url.Parse("http://" + host)
	if err != nil || u.Host != host {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return strings.EqualFold(u.Hostname(), "localhost") || ip != nil && ip.IsLoopback()
}

func checkCall(t *testing.T, c *call, r *http.Request) {
	t.Helper()
	if !strings.Contains(strings.Join(append(r.Header.Values("X-Forwarded-Access-Token"), r.Header.Values("Authorization")...), "\n"), c.token.Reveal()) {
		t.Error("a token that nobody sent")
	}
	target, query, _ := strings.Cut(r.RequestURI, "?")
	if strings.HasPrefix(target, "/") { // the guard refuses any other form
		asked, err := url.PathUnescape(target)
		if got, err2 := url.PathUnescape(c.head.Path); err != nil || err2 != nil || asked != got || query != c.head.Query {
			t.Errorf("asked for %s, the head says %s ? %s", r.RequestURI, c.head.Path, c.head.Query)
		}
	}
	b, err := relay.EncodeHead(&c.head)
	if err != nil {
		if code := relay.AsError(err).Code; code != relay.CodeHeadTooLarge && code != relay.CodeBadRequest {
			t.Error(err)
		}
		return
	}
	head, err := relay.DecodeRequestHead(b)
	if err != nil || head.Check() != nil {
		t.Fatalf("a head that no worker takes: %s %v", b, err)
	}
	for name := range head.Header {
		folded := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		switch {
		case strings.HasPrefix(folded, "x-forwarded-"), folded == "x-forwarded", strings.HasPrefix(folded, "obo-"), strings.HasPrefix(folded, "proxy-"),
			folded == "authorization", folded == "connection", folded == "upgrade", folded == "te", folded == "content-length", folded == "transfer-encoding":
			t.Errorf("%s crosses", name)
		}
	}
}

// sendRaw sends bytes on a connection, ends its half of it, and returns all that comes back.
func sendRaw(t *testing.T, address string, raw []byte) []byte {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetLinger(0) // else a long run uses up all ports
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = conn.Write(raw) // the server may refuse before it has read all
	_ = conn.(*net.TCPConn).CloseWrite()
	answer, _ := io.ReadAll(conn)
	return answer
}

// Whatever order announcements come in, whoever signed them, whatever the clocks say: the directory holds what the right
// key said last and not too long ago, and nothing else.
func FuzzDirectory(f *testing.F) {
	const right, other, ready, draining, gone = 0, 1, 0, 1, 2
	say := func(who, key, seq, age, state, pass byte) []byte { return []byte{who, key, seq, age, state, pass} }
	f.Add(say(0, right, 1, 0, ready, 0))
	f.Add(bytes.Join([][]byte{say(0, right, 2, 0, ready, 5), say(0, right, 1, 0, ready, 5), say(1, right, 1, 0, draining, 5)}, nil))
	f.Add(bytes.Join([][]byte{say(0, right, 1, 0, ready, 5), say(0, right, 3, 0, gone, 0), say(0, right, 2, 0, ready, 0)}, nil))
	f.Add(bytes.Join([][]byte{say(0, other, 1, 0, ready, 0), say(0, right, 0, 0, ready, 0)}, nil))
	f.Add(bytes.Join([][]byte{say(0, right, 1, 51, ready, 0), say(0, right, 2, 50, ready, 0), say(0, right, 3, 256-30, ready, 0), say(0, right, 4, 256-31, ready, 0)}, nil))
	f.Add(bytes.Join([][]byte{say(0, right, 9, 0, ready, 60), say(1, right, 1, 0, ready, 60), say(1, right, 2, 0, ready, 60), say(0, right, 1, 0, ready, 0)}, nil))
	service, stranger := relay.NewIdentity(), relay.NewIdentity()
	trust := trustOf(f, map[string]relay.Identity{"middleware": service, "billing": stranger})
	start := time.Unix(1_750_000_000, 0)
	key, err := relay.NewInstanceKey(start.Add(time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	instances := []string{relay.NewInstance(), relay.NewInstance(), relay.NewInstance()}
	f.Fuzz(func(t *testing.T, script []byte) {
		type last struct {
			seq   uint64
			state relay.State
			heard time.Time
		}
		now, heard := start, map[string]last{}
		d := newDirectory(trust, func() time.Time { return now })
		for range 32 {
			if len(script) < 6 {
				break
			}
			who, identity, seq, age, state, pass := instances[int(script[0])%3], service, uint64(script[2]), int8(script[3]), []relay.State{relay.Ready, relay.Draining, relay.Gone, "lost"}[script[4]%4], script[5]
			if script[1]%4 == other {
				identity = stranger
			}
			script = script[6:]
			jws, err := relay.Announcement{Service: "middleware", Instance: who, Seq: seq, State: state, Capacity: 1}.Sign(identity, key, now.Add(-time.Duration(age)*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			took := d.heard("middleware", []byte(jws)) == nil
			valid := identity.Kid() == service.Kid() && seq > 0 && state != "lost" && age >= -30 && int(age) <= 50
			before, known := heard[who]
			switch {
			case took && !valid:
				t.Fatalf("believed: age %d, seq %d, state %s", age, seq, state)
			case took && known && seq <= before.seq && now.Sub(before.heard) <= relay.AnnouncementLife+2*relay.Leeway:
				t.Fatalf("believed seq %d after %d, %v later", seq, before.seq, now.Sub(before.heard))
			case !took && valid && seq > before.seq:
				t.Fatalf("not believed: age %d, seq %d after %d, state %s", age, seq, before.seq, state)
			case took:
				heard[who] = last{seq, state, now}
			}
			now = now.Add(time.Duration(pass) * time.Second)
			_, live, _ := d.candidates("middleware")
			for _, c := range live {
				if l := heard[c.id]; c.said.Seq != l.seq || l.state == relay.Gone || now.Sub(l.heard) >= relay.AnnouncementLife || (c.class == 1) != (l.state == relay.Draining) {
					t.Fatalf("%+v is there, last heard %+v", c.said, l)
				}
			}
			for _, l := range heard {
				if l.state != relay.Gone && now.Sub(l.heard) < relay.AnnouncementLife && now.Unix() < start.Add(time.Hour).Unix() && len(live) == 0 {
					t.Fatalf("last heard %+v, and nobody is there", l)
				}
			}
		}
	})
}
