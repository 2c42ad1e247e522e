package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/deploy/setup"
)

// TestApp runs broker, worker and publisher as apps of the platform, each with what the platform gives it and nothing else.
func TestApp(t *testing.T) {
	t.Parallel()
	commands := buildSides(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/app",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", commands+string(os.PathListSeparator)+env.Getenv("PATH"))
			return newPlatform(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"signal": sendSignal, "logged": relaytest.Logged, "as": as, "get": get, "called": called,
		},
	})
}

// platform is a workspace with three apps, and the front proxies of two of them.
type platform struct {
	workspace *sandbox.Workspace
	ports     map[string]int
}

type platformKey struct{}

// newPlatform starts one and sets a relay up over the app that BROKER names.
func newPlatform(env *testscript.Env) error {
	workspace, err := sandbox.New(sandbox.Config{
		Users: []sandbox.User{{UserName: "alice@example.com"}, {UserName: "eve@example.com"}},
		Apps: []sandbox.App{
			{Name: "ui", UserAuthorization: true},
			{Name: "middleware", CanUse: []string{"ui", "middleware", "alice@example.com"}},
			{Name: "obo-broker", CanUse: []string{"ui", "middleware", "alice@example.com"}},
			{Name: "stranger"},
		},
	})
	if err != nil {
		return err
	}
	api, err := workspace.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	env.Defer(func() { _ = api.Close() })
	p := &platform{workspace, map[string]int{}}
	env.Values[platformKey{}] = p
	for _, name := range []string{"middleware", "obo-broker", "behind", "nats"} {
		if p.ports[name], err = freePort(); err != nil {
			return err
		}
		env.Setenv(strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"_PORT", fmt.Sprint(p.ports[name]))
	}
	for _, name := range []string{"middleware", "obo-broker"} {
		front, err := sandbox.NewFront(sandbox.FrontConfig{
			Workspace: workspace, App: name, Upstream: fmt.Sprintf("http://127.0.0.1:%d", p.ports[name]), BearerOnlyAPI: true,
		})
		if err != nil {
			return err
		}
		door, err := front.Listen("127.0.0.1:0")
		if err != nil {
			return err
		}
		env.Defer(func() { _ = door.Close() })
		env.Setenv(strings.ToUpper(strings.ReplaceAll(name, "-", "_"))+"_FRONT", door.URL())
	}
	alice, err := workspace.Token("alice@example.com", sandbox.TokenOptions{App: "ui", Lifetime: time.Hour})
	if err != nil {
		return err
	}
	env.Setenv("TOKEN", alice)
	for _, broker := range []string{"obo-broker", "middleware"} {
		if err := writeKits(env, broker, p.ports["nats"]); err != nil {
			return err
		}
	}
	return nil
}

// writeKits sets up a relay whose NATS server is that app, in a folder of its name.
func writeKits(env *testscript.Env, broker string, natsPort int) error {
	made, err := setup.Init(setup.Config{
		Dir: filepath.Join(env.WorkDir, broker), NATSURL: "app:" + broker, Listen: fmt.Sprintf("127.0.0.1:%d", natsPort),
		Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"},
	})
	if err == nil && made.Config.WebSocket != "" {
		err = fmt.Errorf("a WebSocket listener was set up: %s", made.Config.WebSocket)
	}
	return err
}

// as APP [DIR]: the environment becomes the one that the platform gives to the app, with the kit of that folder.
func as(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: as app [folder]")
	}
	p := ts.Value(platformKey{}).(*platform)
	env, err := p.workspace.Env(args[0])
	ts.Check(err)
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		ts.Setenv(name, value)
	}
	ts.Setenv("DATABRICKS_APP_PORT", fmt.Sprint(p.ports[args[0]]))
	ts.Setenv("OBO_KIT", "")
	if len(args) > 1 {
		ts.Setenv("OBO_KIT", ts.ReadFile(filepath.Join(args[1], args[0], "kit.json")))
	}
}

// get URL [PRINCIPAL] [ACCEPT] prints status and body of a GET with the principal's bearer token.
func get(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: get url [principal] [accept]")
	}
	request, err := http.NewRequest(http.MethodGet, args[0], nil)
	ts.Check(err)
	if len(args) > 1 {
		token, err := ts.Value(platformKey{}).(*platform).workspace.Token(args[1], sandbox.TokenOptions{Scopes: []string{sandbox.ScopeAllAPIs}})
		ts.Check(err)
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if len(args) > 2 {
		request.Header.Set("Accept", args[2])
	}
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	ts.Check(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%d %s\n%s\n", response.StatusCode, response.Header.Get("Content-Type"), body)
}

// called prints what the workspace was asked for by service principals, each call once.
func called(ts *testscript.TestScript, neg bool, args []string) {
	seen := map[string]bool{}
	for _, c := range ts.Value(platformKey{}).(*platform).workspace.Calls().ByServicePrincipals() {
		if line := c.Method + " " + c.Path; !seen[line] {
			seen[line] = true
			fmt.Fprintln(ts.Stdout(), line)
		}
	}
}
