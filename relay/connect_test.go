package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

// natsServer runs a real server; port 0 takes a free one.
func natsServer(t *testing.T, opts server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.NoLog, opts.NoSigs = "127.0.0.1", true, true
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	s, err := server.NewServer(&opts)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	return s
}

// client is a connection under test: its callbacks as channels, its log as text.
type client struct {
	nc       *nats.Conn
	up, down chan struct{}
	denied   chan error
	log      *logText
}

// logText is a log that can be waited for.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func (l *logText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	select {
	case l.more <- struct{}{}:
	default:
	}
	return len(b), nil
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logText) await(t *testing.T, part string) {
	t.Helper()
	for !strings.Contains(l.String(), part) {
		select {
		case <-l.more:
		case <-time.After(20 * time.Second):
			t.Fatalf("%q is not in the log: %s", part, l)
		}
	}
}

func connect(t *testing.T, c ConnectConfig) *client {
	t.Helper()
	out := &client{up: make(chan struct{}, 100), down: make(chan struct{}, 100), denied: make(chan error, 100), log: &logText{more: make(chan struct{}, 1)}}
	c.Name = "test"
	c.Log = slog.New(slog.NewTextHandler(out.log, nil))
	c.OnUp = func() { out.up <- struct{}{} }
	c.OnDown = func() { out.down <- struct{}{} }
	c.OnDenied = func(err error) { out.denied <- err }
	nc, err := Connect(c)
	if err != nil {
		t.Fatal(err)
	}
	closed := nc.StatusChanged(nats.CLOSED)
	t.Cleanup(func() { nc.Close(); <-closed })
	out.nc = nc
	return out
}

func await[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came within 20 s")
		panic("unreachable")
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func localURL(port int) string { return "nats://127.0.0.1:" + strconv.Itoa(port) }

// What is published while the connection is away fails, and is never sent when it is back (PROTOCOL.md §4).
func TestConnectSendsNothingLater(t *testing.T) {
	port := freePort(t)
	s := natsServer(t, server.Options{Port: port})
	c := connect(t, ConnectConfig{URL: localURL(port)})
	await(t, c.up)
	got := make(chan *nats.Msg, 10)
	if _, err := c.nc.ChanSubscribe("x", got); err != nil {
		t.Fatal(err)
	}
	if err := c.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	s.Shutdown()
	s.WaitForShutdown()
	await(t, c.down)
	if err := c.nc.Publish("x", []byte("while away")); !transient(err) {
		t.Errorf("while away: %v, want an error that a stream takes for transient", err)
	}
	msg := nats.NewMsg("x")
	msg.Header.Set("a", "b")
	if err := c.nc.PublishMsg(msg); !transient(err) {
		t.Errorf("with a header: %v", err)
	}
	natsServer(t, server.Options{Port: port})
	await(t, c.up)
	if err := c.nc.Publish("x", []byte("after")); err != nil {
		t.Fatal(err)
	}
	if m := await(t, got); string(m.Data) != "after" {
		t.Errorf("%q was sent later", m.Data)
	}
}

func TestConnectBeforeTheServerIsThere(t *testing.T) {
	port := freePort(t)
	c := connect(t, ConnectConfig{URL: localURL(port)})
	if c.nc.IsConnected() {
		t.Fatal("connected to nothing")
	}
	if err := c.nc.Publish("x", nil); !transient(err) {
		t.Errorf("publish before the first connection: %v", err)
	}
	c.log.await(t, "cannot connect to NATS")
	natsServer(t, server.Options{Port: port})
	await(t, c.up)
	if err := c.nc.Flush(); err != nil || !c.nc.IsConnected() || len(c.up) != 0 {
		t.Errorf("%v, connected %v, OnUp was called %d times more", err, c.nc.IsConnected(), len(c.up))
	}
}

// With several servers each reason is told once a minute, not each time that another one's was told in between.
func TestEachReasonIsToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		tell := ConnectConfig{URL: "nats://a,nats://b", Log: slog.New(slog.NewTextHandler(&log, nil))}.tellFailures(false)
		silent := func(from int) error {
			return &net.OpError{Op: "read", Source: &net.TCPAddr{Port: from}, Addr: &net.TCPAddr{Port: 4222}, Err: os.ErrDeadlineExceeded}
		}
		for i := range 5 {
			tell(nil, errors.New("a: connection refused"))
			tell(nil, errors.New("b: no such host"))
			tell(nil, silent(40000+i))
		}
		if n := strings.Count(log.String(), "trying again"); n != 3 {
			t.Errorf("%d lines, want 3:\n%s", n, log.String())
		}
		time.Sleep(tellEvery)
		tell(nil, errors.New("a: connection refused"))
		if n := strings.Count(log.String(), "a: connection refused"); n != 2 {
			t.Errorf("told %d times, want 2", n)
		}
	})
}

func TestConnectWithNKey(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	seedText, _ := user.Seed()
	stranger, _ := nkeys.CreateUser()
	strange, _ := stranger.Seed()
	s := natsServer(t, server.Options{Nkeys: []*server.NkeyUser{{Nkey: public, Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{"allowed"}}, Subscribe: &server.SubjectPermission{Allow: []string{"allowed"}},
	}}}})
	c := connect(t, ConnectConfig{URL: s.ClientURL(), NKeySeed: string(seedText)})
	await(t, c.up)
	if err := c.nc.Publish("denied", nil); err != nil {
		t.Fatal(err)
	}
	if err := await(t, c.denied); !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), "denied") {
		t.Errorf("publish: %v", err)
	}
	sub, err := c.nc.SubscribeSync("denied")
	if err != nil {
		t.Fatal(err)
	}
	if err := await(t, c.denied); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("subscribe: %v", err)
	}
	if _, err := sub.NextMsg(10 * time.Second); !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("the subscription's error: %v", err)
	}
	c.log.await(t, "denies this user a subject")

	// A user that the server does not know says so and never gives up.
	other := connect(t, ConnectConfig{URL: s.ClientURL(), NKeySeed: string(strange)})
	other.log.await(t, "Authorization Violation")
	if len(other.up) != 0 || other.nc.IsClosed() {
		t.Error("up without permission, or given up")
	}
	for _, l := range []*client{c, other} {
		if text := l.log.String(); strings.Contains(text, string(seedText)) || strings.Contains(text, string(strange)) {
			t.Errorf("a seed is in the log: %s", text)
		}
	}
}

// Passwords and tokens in the URL do not reach the log, nor the errors.
func TestConnectLogsNoPassword(t *testing.T) {
	s := natsServer(t, server.Options{Authorization: canary})
	host := strings.TrimPrefix(s.ClientURL(), "nats://")
	c := connect(t, ConnectConfig{URL: "nats://" + canary + "@" + host})
	await(t, c.up)
	s.Shutdown()
	s.WaitForShutdown()
	await(t, c.down)
	c.log.await(t, "cannot connect")
	if text := c.log.String(); strings.Contains(text, canary) || !strings.Contains(text, host) {
		t.Errorf("log: %s", text)
	}
	for _, c := range []ConnectConfig{
		{URL: "nats://" + canary + "@host:%zz"}, {URL: "nats://u:" + canary + "@[::1"}, {URL: canary + "\x7f@host"}, {URL: "nats://host", NKeySeed: canary},
		{URL: "nats://u:" + canary + "@host:4222", CAFile: "/does/not/exist"}, {URL: "nats://u:" + canary + "@host:4222", CertFile: "/does/not/exist", KeyFile: "/does/not/exist"},
		{URL: "nats://u:" + canary + ",rest@host:4222"}, {URL: canary + ":x,rest@host:4222"},
		{URL: "nats://" + canary + ",rest@host:4222"}, {URL: "nats://u:12,34," + canary + ",rest@host:4222"}, {URL: canary + ",rest@127.0.0.1:1"},
		{URL: "bad://u:" + canary + "@host:4222,nats://" + canary + "@other,ws://x"},
	} {
		nc, err := Connect(c)
		if err == nil {
			nc.Close()
			t.Errorf("%v: connected", c)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%v", err)
		}
		if text := fmt.Sprint(c); strings.Contains(text, canary) {
			t.Error(text)
		}
	}
}

func TestConnectConfigReportsAllFaults(t *testing.T) {
	err := ConnectConfig{NKeySeed: "SUX", CredsFile: "x", CertFile: "x"}.Validate()
	if err == nil {
		t.Fatal("valid")
	}
	for _, part := range []string{"OBO_NATS", "an nkey, a creds file and its content: give only one", "not a seed", "both the certificate and its key"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
	for _, url := range []string{"127.0.0.1:4222", "nats://a, tls://b:1", "TLS://host", "wss://host/path", "nats://u:p@h", "u:p@a,u:p@b", "nats://a,nats://u:p@b"} {
		if err := (ConnectConfig{URL: url}).Validate(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// nats.go takes any other scheme for nats, so that a misspelled tls would be a connection in the clear.
func TestConnectConfigKnowsTheSchemes(t *testing.T) {
	for _, url := range []string{"tsl://host:4222", "nats://a:4222,tsl://b:4222", "foo://u:" + canary + "@host", "mqtt://host"} {
		err := ConnectConfig{URL: url}.Validate()
		if err == nil || !strings.Contains(err.Error(), "none of nats, tls, ws, wss and app") || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// A broker app needs a service principal, is the only server, and has TLS by the platform's proxy.
func TestConnectToABrokerApp(t *testing.T) {
	good := brokerapp.Principal{Workspace: "adb-1.2.azuredatabricks.net", ClientID: "client", Secret: canary}
	for _, url := range []string{"app:obo-broker", "https://obo-broker.example"} {
		if err := (ConnectConfig{URL: url, Principal: good}).Validate(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	for want, c := range map[string]ConnectConfig{
		"is not the name of an app":        {URL: "app:Broker", Principal: good},
		"must be the only NATS server":     {URL: "app:a,app:b", Principal: good},
		"DATABRICKS_CLIENT_SECRET":         {URL: "app:a", Principal: brokerapp.Principal{Workspace: "h", ClientID: "client"}},
		"the workspace's address is missi": {URL: "https://a.example", Principal: brokerapp.Principal{ClientID: "client", Secret: canary}},
		"leave out the client certificate": {URL: "app:a", Principal: good, TLSFirst: true},
	} {
		nc, err := Connect(c)
		if err == nil {
			nc.Close()
			t.Errorf("%v: connected", c)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), canary) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	// Nothing answers yet: it goes on trying, and says why, without the secret.
	workspace := httptest.NewServer(http.NotFoundHandler())
	defer workspace.Close()
	good.Workspace = workspace.URL
	c := connect(t, ConnectConfig{URL: "app:obo-broker", Principal: good})
	c.log.await(t, "url=app:obo-broker error=\"the workspace's token endpoint answered 404\"")
	if text := c.log.String(); strings.Contains(text, canary) || c.nc.IsConnected() {
		t.Errorf("log: %s", text)
	}
}

// A connection with nothing but a URL: callbacks and log may be left out.
func TestConnectDefaults(t *testing.T) {
	s := natsServer(t, server.Options{})
	nc, err := Connect(ConnectConfig{URL: s.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	closed := nc.StatusChanged(nats.CLOSED)
	if err := nc.Flush(); err != nil {
		t.Error(err)
	}
	o := nc.Opts
	if o.ReconnectBufSize != -1 || o.MaxReconnect != -1 || !o.RetryOnFailedConnect || !o.PermissionErrOnSubscribe || o.NoEcho {
		t.Errorf("options %+v", o)
	}
	s.Shutdown()
	nc.Close()
	<-closed
}

func TestReconnectDelay(t *testing.T) {
	for attempts := range 50 {
		for range 20 {
			if d := reconnectDelay(attempts); d < 50*time.Millisecond || d > 5*time.Second {
				t.Fatalf("attempt %d: %v", attempts, d)
			}
		}
	}
	if d := reconnectDelay(1); d > 200*time.Millisecond {
		t.Errorf("the first attempt waits %v", d)
	}
}

// A server that denies thousands of subjects does not fill the log; each denial is told to whom it may concern.
func TestDenialsAreLoggedSeldom(t *testing.T) {
	const denials = 1000
	var log strings.Builder
	told := 0
	c := ConnectConfig{Log: slog.New(slog.NewTextHandler(&log, nil)), OnDenied: func(error) { told++ }}.withDefaults()
	options, err := c.options(nil)
	if err != nil {
		t.Fatal(err)
	}
	var o nats.Options
	for _, set := range options {
		if err := set(&o); err != nil {
			t.Fatal(err)
		}
	}
	lines := func() int { return strings.Count(log.String(), "denies this user a subject") }
	deny := func(n int) { o.AsyncErrorCB(nil, nil, fmt.Errorf("%w: %d", nats.ErrPermissionViolation, n)) }
	for range denials {
		deny(0)
	}
	if lines() != 1 {
		t.Errorf("%d lines of one subject", lines())
	}
	for n := range denials {
		deny(n)
	}
	if lines() < 2 || lines() > denials/10 || told != 2*denials {
		t.Errorf("%d lines, told %d times", lines(), told)
	}
}
