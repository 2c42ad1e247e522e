package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

const openText = `listen: "127.0.0.1:-1"` + "\n"

// syncBuffer is a log that the server writes while the test reads.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// run starts a broker and returns it serving, with what stops it and returns Run's error.
func run(t *testing.T, cfg Config) (*Broker, func() error) {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = quiet()
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 100 * time.Millisecond
	}
	b, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() { _ = stop() })
	select {
	case <-b.Ready():
	case err := <-done:
		t.Fatalf("Run ended before it served: %v", err)
	}
	return b, stop
}

func connect(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestServesOnEveryListener(t *testing.T) {
	t.Parallel()
	b, stop := run(t, Config{ConfigText: openText + "websocket: { listen: \"127.0.0.1:9\", no_tls: true }", WebSocketPort: -1, MonitorPort: -1})
	got := make(chan string, 1)
	over := connect(t, b.WebSocketURL())
	if _, err := over.Subscribe("s", func(m *nats.Msg) { got <- string(m.Data) }); err != nil {
		t.Fatal(err)
	}
	if err := over.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := connect(t, b.ClientURL()).Publish("s", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if m := <-got; m != "hello" {
		t.Errorf("got %q", m)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(b.MonitorURL() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("healthz: %s", resp.Status)
	}
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func TestStopGivesNotice(t *testing.T) {
	t.Parallel()
	b, stop := run(t, Config{ConfigText: openText})
	notice, closed := make(chan struct{}), make(chan struct{})
	connect(t, b.ClientURL(), nats.NoReconnect(),
		nats.LameDuckModeHandler(func(*nats.Conn) { close(notice) }),
		nats.ClosedHandler(func(*nats.Conn) { close(closed) }))
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	<-notice
	<-closed
	if err := stop(); err != nil {
		t.Errorf("second stop: %v", err)
	}
	if err := b.Run(t.Context()); err == nil {
		t.Error("Run twice was accepted")
	}
}

func TestStopBeforeStart(t *testing.T) {
	t.Parallel()
	b, err := New(Config{ConfigText: openText, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	if url := b.ClientURL() + b.WebSocketURL() + b.MonitorURL(); url != "" {
		t.Errorf("URL before Run: %s", url)
	}
	if err := b.Reload(); err == nil {
		t.Error("reload before Run was accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(ctx); err != nil {
		t.Errorf("Run on an ended context: %v", err)
	}
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	for name, cfg := range map[string]Config{
		"client":    {ConfigText: openText, Port: port},
		"websocket": {ConfigText: openText + `websocket: { listen: "127.0.0.1:-1", no_tls: true }`, WebSocketPort: port},
		"monitor":   {ConfigText: openText, MonitorPort: port},
		"app":       {ConfigText: openText, App: &App{Listen: fmt.Sprint("127.0.0.1:", port)}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Log = quiet()
			b, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			err = b.Run(t.Context())
			if !errors.Is(err, syscall.EADDRINUSE) {
				t.Fatalf("error %v", err)
			}
			for _, want := range []string{fmt.Sprint("127.0.0.1:", port), "choose another port"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestConfigFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		want string
	}{
		"syntax":        {"listen: \"127.0.0.1:-1\"\nwebsocket {\n", "syntax.conf"},
		"unknown field": {"listen: \"127.0.0.1:-1\"\nmax_paylod: 1MB\n", "unknown-field.conf:2:"},
		"bad value":     {"listen: \"127.0.0.1:-1\"\n\nping_interval: \"often\"\n", "bad-value.conf:3:"},
		"contradiction": {"listen: \"127.0.0.1:-1\"\nwebsocket: { listen: \"127.0.0.1:-1\" }\n", "contradiction.conf"},
		"store":         {"listen: \"127.0.0.1:-1\"\njetstream: { store_dir: \"" + filepath.Join(blocked, "store") + "\" }\n", "jetstream.store_dir"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".conf")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			b, err := New(Config{ConfigFile: path, Log: quiet()})
			if err == nil {
				err = b.Run(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not say %q", err, c.want)
			}
		})
	}
	for name, cfg := range map[string]Config{
		"neither":      {},
		"both":         {ConfigFile: "x", ConfigText: "y"},
		"missing file": {ConfigFile: filepath.Join(dir, "missing.conf")},
		"port":         {ConfigText: openText, Port: 70000},
		"drain":        {ConfigText: openText, DrainTimeout: -1},
		"two ports":    {ConfigText: openText, WebSocketPort: 8000, App: &App{Listen: ":1"}},
		"no websocket": {ConfigText: openText, WebSocketPort: 8000},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

// Neither a configuration that asks for traces nor a client that sends nonsense gets a payload into the log.
func TestLogHasNoPayload(t *testing.T) {
	t.Parallel()
	var out syncBuffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b, stop := run(t, Config{ConfigText: openText + "trace: true\ntrace_verbose: true\ndebug: true\n", Log: log})
	nc := connect(t, b.ClientURL())
	if err := nc.PublishMsg(&nats.Msg{Subject: "s", Data: []byte("CANARY"), Header: nats.Header{"K": {"CANARY"}}}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	raw, err := net.Dial("tcp", strings.TrimPrefix(b.ClientURL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Write([]byte("PUB s 1\r\nCANARYCANARY\r\n")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		if _, err := raw.Read(buf); err != nil {
			break // the server has hung up, after it logged why
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	if strings.Contains(text, "CANARY") {
		t.Errorf("payload in the log:\n%s", text)
	}
	for _, want := range []string{"trace in the configuration is ignored", "parser ERROR", "(not logged)", "level=DEBUG"} {
		if !strings.Contains(text, want) {
			t.Errorf("log lacks %q:\n%s", want, text)
		}
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nats-server.conf")
	write := func(permissions string) {
		t.Helper()
		text := openText + "websocket: { listen: \"127.0.0.1:-1\", no_tls: true }\nauthorization: { users: [ { user: a, password: a, permissions: { " + permissions + " } } ] }\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	allowed := func(b *Broker) bool {
		t.Helper()
		nc := connect(t, b.ClientURL(), nats.UserInfo("a", "a"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		if err := nc.Publish("s", nil); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		return nc.LastError() == nil
	}
	write(`publish: "other"`)
	b, _ := run(t, Config{ConfigFile: path, MonitorPort: -1})
	url := b.ClientURL()
	if allowed(b) {
		t.Error("allowed before the reload")
	}
	write(`publish: "s"`)
	if err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	if !allowed(b) {
		t.Error("refused after the reload")
	}
	if b.ClientURL() != url {
		t.Errorf("address changed from %s to %s", url, b.ClientURL())
	}
	write(`publish: `)
	if err := b.Reload(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("reload of a broken file: %v", err)
	}
	if !allowed(b) {
		t.Error("refused after a reload that failed")
	}
}
