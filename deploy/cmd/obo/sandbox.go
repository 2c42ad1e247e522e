package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
)

const (
	sandboxURL    = "http://127.0.0.1:8080"
	sandboxDomain = "@example.com"
	tokenPath     = "/sandbox/token"
)

// sandboxCommand runs a stand-in for a workspace, or asks one for a token.
type sandboxCommand struct {
	Run   sandboxRun   `cmd:"" default:"withargs" help:"Run it (default)."`
	Token sandboxToken `cmd:"" help:"Print a fresh token of a person, from a sandbox that runs."`
}

// sandboxRun serves the workspace.
type sandboxRun struct {
	Listen   string        `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where it listens: loopback only, since it asks for no password. Default: 127.0.0.1:8080."`
	App      string        `default:"ui" placeholder:"NAME" help:"The app that its tokens are issued to. Default: ui."`
	Lifetime time.Duration `default:"1h" placeholder:"TIME" help:"How long its tokens live. Default: 1h."`
}

// Run serves until the context ends.
func (c *sandboxRun) Run(t *terminal) error {
	workspace, listener, err := openSandbox(c.Listen, "--listen", c.App, c.Lifetime)
	if err != nil {
		return err
	}
	base := workspace.URL()
	fmt.Fprintf(t.stdout, "workspace  %s (a stand-in, without passwords)\n", base)
	fmt.Fprintln(t.stdout, "people     alice (data-admins, analysts), bob (analysts)")
	fmt.Fprintln(t.stdout, "SQL        a table, sales, of which bob sees one row of two; any DATABRICKS_WAREHOUSE_ID will do")
	fmt.Fprintf(t.stdout, "a token    obo sandbox token%s alice\n", elsewhere(base))
	fmt.Fprintf(t.stdout, "           curl -d user=alice %s%s\n", base, tokenPath)
	return serve(t, listener, withTokens(workspace, c.App))
}

// openSandbox makes a workspace with alice and bob, and listens for it; flag says where.
func openSandbox(listen, flag, app string, lifetime time.Duration) (*sandbox.Workspace, net.Listener, error) {
	if host, _, err := net.SplitHostPort(listen); err != nil || !relay.Loopback(host) {
		return nil, nil, fmt.Errorf("%s %q: want a loopback address, for example 127.0.0.1:8080: the sandbox asks for no password", flag, listen)
	}
	workspace, err := sandbox.New(sandbox.Config{
		Users: []sandbox.User{
			{UserName: "alice" + sandboxDomain, DisplayName: "Alice", Groups: []string{"data-admins", "analysts"}},
			{UserName: "bob" + sandboxDomain, DisplayName: "Bob", Groups: []string{"analysts"}},
		},
		Apps: []sandbox.App{{Name: app, UserAuthorization: true, Scopes: []string{sandbox.ScopeSQL}}},
		Tables: []sandbox.Table{{
			Name: "sales", Columns: []sandbox.Column{{Name: "region"}, {Name: "amount", Type: "BIGINT"}},
			Rows: []sandbox.Row{{Values: []any{"emea", 10}}, {Values: []any{"amer", 20}, Groups: []string{"data-admins"}}},
		}},
		TokenLifetime: lifetime,
	})
	if err != nil {
		return nil, nil, err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: stop the program that listens there, or choose another address with %s", err, flag)
	}
	if err := workspace.SetURL("http://" + listener.Addr().String()); err != nil {
		return nil, nil, errors.Join(err, listener.Close())
	}
	return workspace, listener, nil
}

// elsewhere is the flag for a sandbox that is not where one is looked for.
func elsewhere(base string) string {
	if base == sandboxURL {
		return ""
	}
	return " --workspace " + base
}

// serve returns when the context ends and the requests under way have.
func serve(t *terminal, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.NewTextHandler(t.stderr, nil), slog.LevelWarn),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return err
	case <-t.ctx.Done():
		defer func() { <-done }()
		return server.Close()
	}
}

// withTokens adds the one thing that the platform has no address for: a token of anybody, for the asking.
func withTokens(workspace *sandbox.Workspace, app string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", workspace)
	mux.HandleFunc("POST "+tokenPath, func(w http.ResponseWriter, r *http.Request) {
		if !relay.LoopbackHost(r.Host) { // a page whose name leads here (DNS rebinding) is of the same origin
			http.Error(w, "the Host header is not a loopback name: ask at the address that the sandbox printed", http.StatusForbidden)
			return
		}
		opts := sandbox.TokenOptions{App: app}
		if text := r.PostFormValue("lifetime"); text != "" {
			var err error
			if opts.Lifetime, err = time.ParseDuration(text); err != nil {
				http.Error(w, "lifetime: want a time such as 10m, or -1m for a token that has expired", http.StatusBadRequest)
				return
			}
		}
		token, err := workspace.Token(fullName(r.PostFormValue("user")), opts)
		if err != nil {
			http.Error(w, "no such user: want alice or bob", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintln(w, token)
	})
	return http.NewCrossOriginProtection().Handler(mux)
}

func fullName(user string) string {
	if strings.Contains(user, "@") {
		return user
	}
	return user + sandboxDomain
}

// sandboxToken asks a sandbox for a token.
type sandboxToken struct {
	User      string        `arg:"" help:"alice or bob."`
	Workspace string        `env:"OBO_WORKSPACE" default:"http://127.0.0.1:8080" placeholder:"URL" help:"Where the sandbox is. Default: http://127.0.0.1:8080."`
	Lifetime  time.Duration `placeholder:"TIME" help:"How long it lives; --lifetime=-1m makes one that has expired. Default: the sandbox's."`
}

// Run prints the token.
func (c *sandboxToken) Run(t *terminal) error {
	token, err := askSandbox(t.ctx, c.Workspace, "--workspace", c.User, c.Lifetime)
	if err == nil {
		_, err = fmt.Fprintln(t.stdout, token.Reveal())
	}
	return err
}

// askSandbox gets a token from a sandbox that runs, which flag names; lifetime 0 is the sandbox's.
func askSandbox(ctx context.Context, workspace, flag, user string, lifetime time.Duration) (relay.Token, error) {
	none := relay.Token{}
	form := url.Values{"user": {user}}
	if lifetime != 0 {
		form.Set("lifetime", lifetime.String())
	}
	address := strings.TrimSuffix(workspace, "/") + tokenPath
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return none, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return none, fmt.Errorf("no sandbox answers at %s: start one with obo sandbox, or name it with %s: %w", workspace, flag, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if err != nil {
		return none, err
	}
	text := strings.TrimSpace(string(body))
	if response.StatusCode != http.StatusOK {
		line, _, _ := strings.Cut(text, "\n")
		return none, fmt.Errorf("%s answered %s: %.200q", workspace, response.Status, line)
	}
	token, err := relay.NewToken(text)
	if err != nil || token.Opaque() {
		return none, fmt.Errorf("what answers at %s is no obo sandbox: name one with %s", workspace, flag)
	}
	return token, nil
}
