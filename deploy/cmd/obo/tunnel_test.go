package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/natsconf/natscli"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

// brokerAppFor serves a broker app behind a front proxy that lets dev in and eve not. It returns the app's URL.
func brokerAppFor(t *testing.T, made setup.Result) (workspace *sandbox.Workspace, appURL string) {
	t.Helper()
	b, err := broker.New(broker.Config{ConfigFile: made.ServerConf, Port: -1, App: &broker.App{Listen: "127.0.0.1:0"}, Log: slog.New(slog.DiscardHandler), DrainTimeout: time.Millisecond})
	relaytest.Must(t, err)
	relaytest.Start(t, b.Run)
	<-b.Ready()
	workspace, err = sandbox.New(sandbox.Config{
		Users: []sandbox.User{{UserName: "dev@example.com"}, {UserName: "eve@example.com"}},
		Apps:  []sandbox.App{{Name: "obo-broker", CanUse: []string{"dev@example.com"}}},
	})
	relaytest.Must(t, err)
	at := strings.TrimSuffix(strings.Replace(b.WebSocketURL(), "ws://", "http://", 1), brokerapp.Path)
	front, err := sandbox.NewFront(sandbox.FrontConfig{Workspace: workspace, App: "obo-broker", Upstream: at, BearerOnlyAPI: true})
	relaytest.Must(t, err)
	door, err := front.Listen("127.0.0.1:0")
	relaytest.Must(t, err)
	t.Cleanup(func() { _ = door.Close() })
	return workspace, door.URL()
}

// The real nats CLI looks at a broker app through the tunnel, with the contexts of obo init and the developer's token from
// the Databricks CLI.
func TestTunnel(t *testing.T) {
	port, err := freePort()
	relaytest.Must(t, err)
	made, err := setup.Init(setup.Config{
		Dir: t.TempDir(), NATSURL: brokerApp, Listen: "127.0.0.1:" + port, Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"},
	})
	relaytest.Must(t, err)
	workspace, appURL := brokerAppFor(t, made)
	token, err := workspace.Token("dev@example.com", sandbox.TokenOptions{})
	relaytest.Must(t, err)
	t.Setenv("RECORD", t.TempDir())
	t.Setenv("APPS", "obo-broker")
	t.Setenv("APP_URL", appURL)
	t.Setenv("TOKEN", token)

	ctx, stop := context.WithCancel(t.Context())
	stdout, out := io.Pipe()
	ended := make(chan int, 1)
	var stderr strings.Builder
	go func() {
		defer out.Close()
		ended <- run(ctx, []string{"tunnel", "--profile", "work", "--listen", "127.0.0.1:" + port}, nil, out, &stderr)
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "nats://127.0.0.1:"+port+" leads to ") {
		t.Fatalf("%q %v", line, err)
	}
	cli := natscli.New(t, made.Config.Dir)
	for _, c := range []struct {
		context string
		args    []string
		want    string
	}{
		{"obo-system", []string{"server", "list"}, "Server Overview"},
		{"obo-inspector", []string{"sub", "obo.v1.>", "--count", "1", "--wait", "1ms"}, "Subscribing on obo.v1.>"},
		{"obo-inspector", []string{"rtt", "1"}, "nats://127.0.0.1:" + port},
	} {
		deadline, cancel := context.WithTimeout(t.Context(), time.Minute)
		if got, err := cli.Run(deadline, c.context, c.args...); !strings.Contains(got, c.want) {
			t.Errorf("nats %v: %v\n%s", c.args, err, got)
		}
		cancel()
	}
	stop()
	if code := <-ended; code != 0 {
		t.Errorf("exit status %d: %s", code, &stderr)
	}
	calls, err := os.ReadFile(filepath.Join(os.Getenv("RECORD"), "calls"))
	if err != nil || string(calls) != "apps get obo-broker --output json --profile work\nauth token --profile work\n" {
		t.Errorf("the Databricks CLI was called with\n%s%v", calls, err)
	}
}

// What keeps a tunnel from being is told before anything listens.
func TestTunnelFaults(t *testing.T) {
	made, err := setup.Init(setup.Config{Dir: t.TempDir(), NATSURL: brokerApp, Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"}})
	relaytest.Must(t, err)
	workspace, appURL := brokerAppFor(t, made)
	token, err := workspace.Token("eve@example.com", sandbox.TokenOptions{})
	relaytest.Must(t, err)
	file := filepath.Join(t.TempDir(), "token")
	relaytest.Must(t, os.WriteFile(file, []byte(token), 0o600))
	t.Setenv("RECORD", t.TempDir())
	t.Setenv("TOKEN", "")
	for _, c := range []struct{ args, want string }{
		{"--listen 0.0.0.0:4222", "want a loopback address"},
		{"--url " + appURL + " --token-file " + file, "(403): give its service principal CAN USE on the broker app"},
		{"--url " + appURL + " --token-file missing", "--token-file: "},
		{"--url ftp://x --token-file " + file, `scheme "ftp"`},
		{"--app other", "databricks apps get: exit status 1: Error: App with name other does not exist"},
		{"--url " + appURL, "printed no access_token"},
	} {
		var stderr strings.Builder
		code := run(t.Context(), append([]string{"tunnel"}, strings.Fields(c.args)...), nil, io.Discard, &stderr)
		if code != 1 || !strings.Contains(stderr.String(), c.want) || strings.Contains(stderr.String(), token) {
			t.Errorf("obo tunnel %s: %d %s", c.args, code, &stderr)
		}
	}
	t.Setenv("PATH", t.TempDir())
	var stderr strings.Builder
	if code := run(t.Context(), []string{"tunnel"}, nil, io.Discard, &stderr); code != 1 || !strings.Contains(stderr.String(), "Databricks CLI is not on PATH") {
		t.Errorf("%d %s", code, &stderr)
	}
}

// brokenListener accepts one connection.
type brokenListener struct {
	net.Listener
	conn net.Conn
}

func (l *brokenListener) Accept() (net.Conn, error) {
	if conn := l.conn; conn != nil {
		l.conn = nil
		return conn, nil
	}
	return nil, errors.New("too many open files")
}

// When it can take no more connections the tunnel ends, and says so, although one is open.
func TestTunnelCannotAccept(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(t, err)
	defer silent.Close()
	door, err := brokerapp.New(brokerapp.Config{Address: "http://" + silent.Addr().String(), Tokens: fixedToken("t")})
	relaytest.Must(t, err)
	here, there := net.Pipe()
	defer there.Close()
	var stderr strings.Builder
	begin := time.Now()
	err = tunnel{door, &stderr}.serve(t.Context(), &brokenListener{silent, here})
	if err == nil || err.Error() != "too many open files" || stderr.Len() > 0 || time.Since(begin) > 20*time.Second {
		t.Errorf("%v after %v, and %q", err, time.Since(begin), &stderr)
	}
}

// What accepts connections and says nothing is told, not waited for.
func TestTunnelToWhatDoesNotAnswer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(t, err)
	defer silent.Close()
	file := filepath.Join(t.TempDir(), "token")
	relaytest.Must(t, os.WriteFile(file, []byte("t"), 0o600))
	generous := enterTimeout
	enterTimeout = 100 * time.Millisecond
	t.Cleanup(func() { enterTimeout = generous })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var stderr strings.Builder
	code := run(ctx, []string{"tunnel", "--url", "http://" + silent.Addr().String(), "--token-file", file}, nil, io.Discard, &stderr)
	if code != 1 || ctx.Err() != nil {
		t.Errorf("%d %s", code, &stderr)
	}
}

// A token that the front proxy does not accept any longer is replaced: in the file, or by the Databricks CLI.
func TestTunnelTakesAnotherToken(t *testing.T) {
	made, err := setup.Init(setup.Config{Dir: t.TempDir(), NATSURL: brokerApp, Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"}})
	relaytest.Must(t, err)
	workspace, appURL := brokerAppFor(t, made)
	token, err := workspace.Token("dev@example.com", sandbox.TokenOptions{})
	relaytest.Must(t, err)
	file := filepath.Join(t.TempDir(), "token")
	relaytest.Must(t, os.WriteFile(file, []byte("revoked"), 0o600))
	door, err := (&tunnelCommand{URL: appURL, TokenFile: file}).door(t.Context())
	relaytest.Must(t, err)
	if _, err := door.Status(t.Context()); err == nil {
		t.Fatal("what is revoked is accepted")
	}
	relaytest.Must(t, os.WriteFile(file, []byte(token), 0o600))
	if _, err := door.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// colourful is a Databricks CLI that fails in colours.
type colourful struct{ fixedToken }

func (colourful) Token(context.Context) (string, error) { return "", errors.New("\x1b[31mno\x1b[0m") }

// What others say is shown, and steers no terminal.
func TestTunnelsTextIsHarmless(t *testing.T) {
	door, err := brokerapp.New(brokerapp.Config{Address: "http://127.0.0.1:1", Tokens: colourful{}})
	relaytest.Must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- tunnel{door, write}.serve(ctx, listener) }()
	conn, err := net.Dial("tcp", listener.Addr().String())
	relaytest.Must(t, err)
	defer conn.Close()
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil || line != "obo tunnel: \ufffd[31mno\ufffd[0m\n" {
		t.Errorf("%q, %v", line, err)
	}
	stop()
	relaytest.Must(t, <-ended)
}
