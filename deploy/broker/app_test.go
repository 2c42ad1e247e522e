package broker

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/obo-relay/obo-relay/relay/brokerapp"
	"github.com/obo-relay/obo-relay/schemas"
)

// runApp starts a broker as an app and returns its base URL.
func runApp(t *testing.T, app App) (b *Broker, base string, stop func() error) {
	t.Helper()
	app.Listen = "127.0.0.1:0"
	b, stop = run(t, Config{ConfigText: openText, App: &app})
	return b, strings.TrimSuffix(strings.Replace(b.WebSocketURL(), "ws", "http", 1), brokerapp.Path), stop
}

func send(t *testing.T, method, address string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestAppServesNATS(t *testing.T) {
	t.Parallel()
	b, base, stop := runApp(t, App{})
	over, local := connect(t, b.WebSocketURL()), connect(t, b.ClientURL())
	got, err := local.SubscribeSync("s")
	if err != nil {
		t.Fatal(err)
	}
	if err := local.Flush(); err != nil {
		t.Fatal(err)
	}
	large := make([]byte, over.MaxPayload()-1)
	if err := over.Publish("s", large); err != nil {
		t.Fatal(err)
	}
	if m, err := got.NextMsg(20 * time.Second); err != nil || len(m.Data) != len(large) {
		t.Fatal(err)
	}
	_, body := send(t, http.MethodGet, base+brokerapp.Path, "Accept", "application/json")
	var state brokerapp.Status
	if err := json.Unmarshal([]byte(body), &state); err != nil || state.ServerID != over.ConnectedServerId() || state.Connections != 2 || state.Type != brokerapp.StatusTypeName {
		t.Errorf("%s, %v", body, err)
	}
	if err := compile(t)(body); err != nil {
		t.Errorf("%s: %v", body, err)
	}
	resp, page := send(t, http.MethodGet, base+"/", "Accept", "text/html")
	if !strings.Contains(page, state.ServerID) || !strings.Contains(page, "obo tunnel --app obo-broker") || resp.Header.Get("Cache-Control") != "no-store" || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("%v %s", resp.Header, page)
	}
	closed := make(chan struct{})
	connect(t, b.WebSocketURL(), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err := stop(); err != nil {
		t.Error(err)
	}
	<-closed
	if c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://")); err == nil {
		_ = c.Close()
		t.Error("the port is still open")
	}
}

// compile returns a check of the schema of brokerapp.Status.
func compile(t *testing.T) func(string) error {
	t.Helper()
	data, err := schemas.Read(brokerapp.StatusTypeName)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("status", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("status")
	if err != nil {
		t.Fatal(err)
	}
	return func(text string) error {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			return err
		}
		return s.Validate(v)
	}
}

func TestStatusExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "..", "schemas", "examples", brokerapp.StatusTypeName, "*.json"))
	if err != nil || len(files) < 4 {
		t.Fatalf("%v %v", files, err)
	}
	check := compile(t)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(string(data)); (err == nil) != strings.HasPrefix(filepath.Base(file), "valid-") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestAppRefuses(t *testing.T) {
	t.Parallel()
	_, base, _ := runApp(t, App{})
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	for _, c := range []struct {
		method, path string
		header       []string
		want         int
	}{
		{http.MethodGet, brokerapp.Path, upgrade, http.StatusSwitchingProtocols},
		{http.MethodGet, brokerapp.Path, append([]string{"Origin", base}, upgrade...), http.StatusSwitchingProtocols},
		{http.MethodGet, brokerapp.Path, append([]string{"Origin", "https://evil.example"}, upgrade...), http.StatusForbidden},
		{http.MethodPost, brokerapp.Path, nil, http.StatusMethodNotAllowed},
		{http.MethodGet, brokerapp.Path + "/leafnode", upgrade, http.StatusNotFound},
		{http.MethodGet, "/leafnode", upgrade, http.StatusNotFound},
		{http.MethodGet, "/mqtt", upgrade, http.StatusNotFound},
		{http.MethodGet, "/varz", nil, http.StatusNotFound},
		{http.MethodDelete, "/", nil, http.StatusMethodNotAllowed},
	} {
		if resp, body := send(t, c.method, base+c.path, c.header...); resp.StatusCode != c.want {
			t.Errorf("%s %s %v: %s %s", c.method, c.path, c.header, resp.Status, body)
		}
	}
}

// Tokens and cookies of the platform's are not nats-server's to see: it can be told to log, and takes cookies for passwords.
// A body that never comes keeps nobody: what has none to read answers at once and hangs up.
func TestAppDoesNotWaitForABody(t *testing.T) {
	t.Parallel()
	_, base, _ := runApp(t, App{})
	for _, head := range []string{"POST /api/nats", "GET /api/nats", "POST /", "POST /none", "GET /api/nats HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX:"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, head+" HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%q: the connection stays open: %v", head, err)
		}
	}
}

func TestUpgradeCarriesNoSecret(t *testing.T) {
	t.Parallel()
	b, _, _ := runApp(t, App{})
	in := httptest.NewRequest(http.MethodGet, brokerapp.Path+"?token=CANARY", nil)
	for _, name := range []string{"Authorization", "Cookie", "X-Forwarded-Access-Token", "X-Forwarded-Email", "X-Custom"} {
		in.Header.Set(name, "CANARY")
	}
	in.Header.Set("Sec-WebSocket-Key", "key")
	in.Header.Set("X-Real-Ip", "192.0.2.7")
	p := &httputil.ProxyRequest{In: in, Out: in.Clone(t.Context())}
	b.toNATS(p)
	p.Out.RequestURI = "" // as the proxy's transport sends it
	out, err := httputil.DumpRequestOut(p.Out, false)
	if err != nil || strings.Contains(string(out), "CANARY") || p.Out.URL.RawQuery != "" {
		t.Errorf("%s %v", out, err)
	}
	if p.Out.Header.Get("Sec-WebSocket-Key") != "key" || p.Out.Header.Get("X-Forwarded-For") != "192.0.2.7" || p.Out.Host != in.Host {
		t.Errorf("%s", out)
	}
}

func TestAppBehind(t *testing.T) {
	t.Parallel()
	var seen http.Header
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header.Clone()
		w.Header().Set("X-Answer", "42")
		_, _ = io.WriteString(w, "app "+r.Host+" "+r.URL.RequestURI())
	}))
	defer upstream.Close()
	at, err := url.Parse(upstream.URL)
	if err != nil {
		t.Fatal(err)
	}
	b, base, _ := runApp(t, App{Behind: at, Name: "middleware"})
	sent := []string{"X-Forwarded-Host", "ui.example", "X-Forwarded-For", "192.0.2.7", "X-Forwarded-Proto", "https", "X-Forwarded-Access-Token", "t", "X-Forwarded-Email", "a@b"}
	for _, path := range []string{"/", "/api/x?q=1", "/api/x?a=1;b=2&c=%zz", brokerapp.Path + "/x", "/leafnode"} {
		resp, body := send(t, http.MethodGet, base+path, sent...)
		if body != "app "+strings.TrimPrefix(base, "http://")+" "+path || resp.Header.Get("X-Answer") != "42" {
			t.Errorf("%s: %s %q", path, resp.Status, body)
		}
		for i := 0; i+1 < len(sent); i += 2 {
			if got := seen.Get(sent[i]); got != sent[i+1] {
				t.Errorf("%s: %s is %q, want %q as the platform sent it", path, sent[i], got, sent[i+1])
			}
		}
	}
	if _, page := send(t, http.MethodGet, base+brokerapp.Path); !strings.Contains(page, "obo tunnel --app middleware") {
		t.Errorf("%s", page)
	}
	connect(t, b.WebSocketURL())
	upstream.Close()
	if resp, body := send(t, http.MethodGet, base+"/"); resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "the app behind obo-broker does not answer") {
		t.Errorf("%s %s", resp.Status, body)
	}
}

// Whatever the configuration says about WebSockets, they come through the app's port, and a reload leaves them alone.
func TestAppReplacesTheWebSocketListener(t *testing.T) {
	t.Parallel()
	b, _ := run(t, Config{ConfigText: openText + "websocket: { listen: \"127.0.0.1:9\", no_tls: true }", App: &App{Listen: "127.0.0.1:0"}})
	over := connect(t, b.WebSocketURL())
	if err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	if err := over.Flush(); err != nil {
		t.Error(err)
	}
	connect(t, b.WebSocketURL())
}
