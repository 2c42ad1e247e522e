package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// Whatever the broker makes of a message, and whatever an app with the keys puts into its head: only the bytes that were
// sealed are admitted, on the subjects that stand in them, under hints that are true, once.
func FuzzAdmit(f *testing.F) {
	head := `{"method":"POST","path":"/do","header":{},"length":4,"subject":"$SUBJECT","reply":"$REPLY","iat_ms":$NOW,"timeout_ms":1000}`
	f.Add(head, []byte("body"), true, "", "", uint16(0), byte(0), []byte(nil), false)
	f.Add(head, []byte("body"), false, "Obo-Method", "POST", uint16(0), byte(0), []byte(nil), false)
	f.Add(head, []byte("body"), true, "obo-path", "/other", uint16(0), byte(0), []byte(nil), false)
	f.Add(head, []byte(nil), true, "", "", uint16(1), byte(1), []byte(nil), false)       // the grant's length
	f.Add(head, []byte(nil), true, "", "", uint16(300), byte(0x20), []byte(nil), false)  // the grant
	f.Add(head, []byte(nil), true, "", "", uint16(65000), byte(0x80), []byte(""), false) // the frame
	f.Add(head, []byte(nil), true, "", "", uint16(0), byte(0), []byte("more"), false)
	f.Add(strings.Replace(head, "$REPLY", "obo.v1.rep.ui.x.y", 1), []byte(nil), true, "", "", uint16(0), byte(0), []byte(nil), false)
	f.Add(strings.Replace(head, "$NOW", "1", 1), []byte(nil), true, "", "", uint16(0), byte(0), []byte(nil), false)
	f.Add(strings.Replace(head, "/do", "/a/../b", 1), []byte(nil), true, "", "", uint16(0), byte(0), []byte(nil), false)
	f.Add(strings.Replace(head, "}", `,"x":1}`, 1), []byte(nil), true, "", "", uint16(0), byte(0), []byte(nil), false)
	f.Add("{}", []byte(nil), true, "", "", uint16(0), byte(0), []byte(nil), false)
	f.Add(head, []byte("body"), true, "", "", uint16(0), byte(0), []byte(nil), true)
	f.Add(head, []byte("body"), true, "", "", uint16(9), byte(1), []byte(nil), true)  // another hash
	f.Add(head, []byte("body"), true, "", "", uint16(50), byte(1), []byte(nil), true) // the frame
	s := newSealer(f, nil)
	grant, compact := s.grant()
	if _, err := s.admit(s.message(grant, compact, nil)); err != nil { // from now on the grant is kept
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, head string, body []byte, whole bool, hint, value string, position uint16, change byte, more []byte, refer bool) {
		id := relay.NewID()
		m := &nats.Msg{Subject: s.subjects.Request("middleware", s.instance, "ui"), Reply: s.subjects.Reply("ui", s.inbox, id)}
		now := s.clock.now()
		text, err := json.Marshal(now.UnixMilli())
		if err != nil {
			t.Fatal(err)
		}
		head = strings.NewReplacer("$SUBJECT", m.Subject, "$REPLY", m.Reply, "$NOW", string(text)).Replace(head)
		if len(head)+len(body) > relay.MaxFrame-4 {
			return
		}
		stream := relay.NewStream(context.Background(), relay.StreamConfig{
			Role: relay.RoleApp, ID: id, Grant: grant, Limit: relay.MaxFrame, Budget: relay.NewBudget(1), Now: time.Now,
			Publish: func(b []byte, _ relay.FrameType, _ int) error { m.Data = bytes.Clone(b); return nil },
		})
		defer stream.Close()
		stream.SetGrant([]byte(compact))
		if refer {
			stream.ReferToGrant(relay.HashGrant([]byte(compact)))
		}
		if err := stream.SendHead([]byte(head), body, whole, 0); err != nil {
			t.Fatal(err)
		}
		m.Data[int(position)%len(m.Data)] ^= change
		m.Data = append(m.Data, more...)
		if hint != "" {
			m.Header = nats.Header{hint: {value}}
		}
		a, refusal := s.admit(m)
		if refusal != nil {
			if refusal.Code != relay.CodeRefused && refusal.Code != relay.CodeClockSkew && refusal.Code != relay.CodeReplayFull && (refusal.Code != relay.CodeGrantUnknown || !refer) {
				t.Errorf("refused with %s", refusal.Code)
			}
			return
		}
		if change != 0 || len(more) > 0 {
			t.Fatalf("admitted with byte %d changed by %x and %q appended", position, change, more)
		}
		if a.head.Subject != m.Subject || a.head.Reply != m.Reply || !bytes.Equal(a.body, body) || a.whole != whole || a.grant.Gid != grant.Gid {
			t.Errorf("read as %+v", a)
		}
		if d := now.Sub(time.UnixMilli(a.head.IssuedAt)); d > relay.Leeway || d < -relay.Leeway {
			t.Errorf("admitted %v after it was issued", d)
		}
		for name, truth := range map[string]string{relay.HintID: id.String(), relay.HintMethod: a.head.Method, relay.HintPath: a.head.Path, relay.HintTrace: a.head.Header.Get(relay.HintTrace)} {
			if strings.EqualFold(hint, name) && value != truth {
				t.Errorf("admitted with the hint %s: %q, in truth %q", hint, value, truth)
			}
		}
		if _, again := s.admit(m); !errors.Is(again, errRepeated) {
			t.Errorf("the second time: %v", again)
		}
		if a.fault == nil {
			checkRequest(t, a, grant)
		}
	})
}

// checkRequest: what a head becomes has its path, one token, and nothing that only the worker may say.
func checkRequest(t *testing.T, a *admitted, grant *relay.Grant) {
	path, requestID := a.head.Path, relay.RequestID(a.head.Header, relay.ID{})
	r, _, err := newRequest(context.Background(), a, Call{Token: grant.Token}, &User{ID: "7", UserName: "alice"}, DefaultIdentityHeaders())
	if err != nil {
		t.Fatalf("a head without fault makes no request: %v", err)
	}
	if r.URL.EscapedPath() != path || r.URL.Host != "" || r.URL.RawQuery != a.head.Query {
		t.Errorf("the path %s becomes %+v", path, r.URL)
	}
	want := map[string]string{relay.HeaderAccessToken: grant.Token.Reveal(), relay.HeaderUser: "7", relay.HeaderPreferredUsername: "alice", relay.HeaderRequestID: requestID}
	for name, values := range r.Header {
		folded := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		if wanted, ours := want[http.CanonicalHeaderKey(folded)]; ours && (len(values) != 1 || values[0] != wanted) && requestID != (relay.ID{}).String() {
			t.Errorf("%s: %q", name, values)
		} else if !ours && (strings.HasPrefix(folded, "x-forwarded") || strings.HasPrefix(folded, "obo-") || folded == "authorization" || folded == "transfer-encoding" || folded == "host") {
			t.Errorf("%s: %q crosses", name, values)
		}
	}
}

// Whatever bytes a workspace answers: somebody with an id and a name, or an error of the table that shows no token.
func FuzzMe(f *testing.F) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
	token := testToken(f, testJWT("alice", time.Now().Add(time.Hour)))
	for _, answer := range []string{
		head + aliceJSON, head + `{}`, head + `{"id":"7"}`, head + `{"id":"7","userName":"a","active":false}`, head + `[]`, head, head + `{"id":7,"userName":["a"]}`,
		head + `{"id":"7","userName":"a","groups":[{"display":""},{"display":"b"},{"display":"a"},{"display":"b"}],"emails":[{"value":"b"},{"value":"a","primary":true}]}`,
		"HTTP/1.1 401 Unauthorized\r\n\r\n", "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n\r\n" + `{"message":"required scopes: sql"}`,
		"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\n\r\n" + `{"error_code":"403","message":"Invalid access token."}`,
		"HTTP/1.1 403 Forbidden\r\nWWW-Authenticate: Bearer error=\"insufficient_scope\", scope=\"sql " + token.Reveal() + "\"\r\n\r\n",
		"HTTP/1.1 429 Too Many\r\nRetry-After: 17\r\nX-Request-Id: " + token.Reveal()[:60] + "\r\n\r\n", "HTTP/1.1 302 Found\r\nLocation: https://evil.example/" + token.Reveal() + "\r\n\r\n",
		"HTTP/1.1 500 Oops\r\nContent-Type: text/html\r\n\r\n<html>" + token.Reveal(), "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", "no HTTP",
	} {
		f.Add([]byte(answer))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		w, err := NewWorkspace(WorkspaceConfig{Host: "https://workspace.example", RetryTimeout: -1, Transport: answers(answer)})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		u, err := w.Me(t.Context(), token)
		if err == nil {
			if u.ID == "" || u.UserName == "" || !slices.IsSorted(u.Groups) || slices.Contains(u.Groups, "") || slices.Contains(u.Emails, "") {
				t.Errorf("read as %+v", u)
			}
			return
		}
		e, ok := errors.AsType[*relay.Error](err)
		if !ok || e.Code == relay.CodeInternal || e.Code.Info().Code == "" {
			t.Errorf("an error out of the table: %v", err)
		}
		for _, part := range strings.Split(token.Reveal(), ".")[1:] { // the first is nearly everybody's
			if strings.Contains(err.Error(), part) {
				t.Errorf("the error shows the token: %v", err)
			}
		}
	})
}

// answers is a connection on which a workspace answers every request with the same bytes.
type answers []byte

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return http.ReadResponse(bufio.NewReader(bytes.NewReader(a)), r)
}

// Whatever bytes come to the app's own port: what the app reads is one request for a path that the policy allows, with
// the person's own identity.
func FuzzFront(f *testing.F) {
	policy, err := ParsePolicy("p", []byte(`{"type": "obo.v1.policy", "rules": [{"match": "GET /open/", "anyone": true}, {"match": "POST /open/", "anyone": true}]}`))
	if err != nil {
		f.Fatal(err)
	}
	token := testJWT("alice", time.Now().Add(time.Hour))
	for _, request := range []string{
		"GET /open/a?q=1 HTTP/1.1\r\nHost: app\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"POST /open/a HTTP/1.1\r\nHost: app\r\nX-Forwarded-Access-Token: $TOKEN\r\nContent-Length: 5\r\n\r\nhello",
		"POST /open/a HTTP/1.1\r\nHost: app\r\nX-Forwarded-Access-Token: $TOKEN\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"POST /open/a HTTP/1.1\r\nHost: app\r\nX-Forwarded-Access-Token: $TOKEN\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /secret HTTP/1.1\r\n\r\n",
		"GET /open/../secret HTTP/1.1\r\nHost: app\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"GET /open/%2e%2e/secret HTTP/1.1\r\nHost: app\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"GET http://app/secret HTTP/1.1\r\nHost: app\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"GET /open/a HTTP/1.1\r\nHost: app\r\nX-Forwarded-Access-Token: $TOKEN\r\nX_Forwarded_Email: eve\r\nX-Forwarded-User: eve\r\nX-Original-Url: /secret\r\nX-Http-Method-Override: DELETE\r\n\r\n",
		"GET /open/a HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: app\r\nX-Forwarded-Access-Token: $TOKEN\r\n\r\n", "GET /secret HTTP/1.0\r\n\r\n", "\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add([]byte(request))
	}
	cfg := Config{
		Service: "middleware", Policy: policy, Lookup: newDirectory("analysts"), Log: slog.New(slog.DiscardHandler),
		IdentityHeaders: DefaultIdentityHeaders(), DrainTimeout: time.Second, Now: time.Now,
	}
	w := &Worker{cfg: cfg, log: cfg.Log, instance: relay.NewInstance(), gate: newGate(cfg)}
	w.audit = &auditTrail{to: &keptRecords{}, log: cfg.Log, service: cfg.Service, instance: w.instance}
	front, err := NewFront(w, &url.URL{Scheme: "http", Host: "127.0.0.1:1"})
	if err != nil {
		f.Fatal(err)
	}
	app := &wireApp{}
	front.proxy.Transport = app
	server := httptest.NewUnstartedServer(front)
	server.Config.DisableGeneralOptionsHandler = true
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	f.Cleanup(server.Close)
	f.Fuzz(func(t *testing.T, raw []byte) {
		w.audit = &auditTrail{to: &keptRecords{}, log: cfg.Log, service: cfg.Service, instance: w.instance}
		app.seen = nil
		sendRaw(t, server.Listener.Addr().String(), bytes.ReplaceAll(raw, []byte("$TOKEN"), []byte(token)))
		for _, wire := range app.seen {
			checkForwarded(t, wire)
		}
	})
}

// sendRaw sends bytes on a connection, ends its half of it, and waits until the server has ended the other.
func sendRaw(t *testing.T, address string, raw []byte) {
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
	_, _ = io.Copy(io.Discard, conn)
}

// wireApp is an app that keeps the bytes of each request as they come to it.
type wireApp struct{ seen [][]byte }

func (a *wireApp) RoundTrip(r *http.Request) (*http.Response, error) {
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		return nil, err
	}
	a.seen = append(a.seen, b.Bytes())
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

func checkForwarded(t *testing.T, wire []byte) {
	t.Helper()
	in := bufio.NewReader(bytes.NewReader(wire))
	r, err := http.ReadRequest(in)
	if err != nil {
		t.Fatalf("the app cannot read %q: %v", wire, err)
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		t.Errorf("the body that the app reads breaks off: %v", err)
	}
	if rest, _ := io.ReadAll(in); len(rest) > 0 {
		t.Errorf("after the request the app reads %q", rest)
	}
	if r.URL.Path != "/open" && !strings.HasPrefix(r.URL.Path, "/open/") || r.Method != "GET" && r.Method != "HEAD" && r.Method != "POST" {
		t.Errorf("the app gets %s %s", r.Method, r.URL.Path)
	}
	for name, values := range r.Header {
		switch folded := strings.ToLower(strings.ReplaceAll(name, "_", "-")); folded {
		case "x-forwarded-email", "x-forwarded-user", "x-forwarded-preferred-username":
			if len(values) != 1 || !strings.Contains("7 alice@example.com", values[0]) {
				t.Errorf("%s: %q", name, values)
			}
		case "authorization", "x-original-url", "x-http-method-override":
			t.Errorf("%s: %q crosses", name, values)
		}
	}
}
