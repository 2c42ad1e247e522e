package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nkeys"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){command: main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: writeSide,
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"logged": relaytest.Logged, "fetch": fetch, "crowd": crowd},
	})
}

// writeSide writes the files of one app, as obo init does, and takes two ports, one of which stays taken.
func writeSide(env *testscript.Env) error {
	app, service := relay.NewIdentity(), relay.NewIdentity()
	pair, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	seed, err := pair.Seed()
	if err != nil {
		return err
	}
	trust := relay.TrustFile{Type: relay.TrustTypeName, Services: map[string]relay.JWKS{
		"middleware":  {Keys: []relay.JWK{service.Public()}},
		"back-office": {Keys: []relay.JWK{service.Public()}},
	}}
	kit := relay.Kit{Type: relay.KitTypeName, Role: relay.RoleApp, Name: "ui", NATS: "nats://127.0.0.1:1", NKey: string(seed), Key: app.Private(), Trust: trust}
	wrong := kit
	wrong.Role = relay.RoleService
	env.Setenv("SEED", string(seed))
	env.Setenv("SECRET", app.Private().D)
	var faults []error
	for name, v := range map[string]any{"key.json": app.Private(), "trust.json": trust, "kit.json": kit, "wrong-kit.json": wrong} {
		text, err := relay.PrettyJSON(v)
		faults = append(faults, err, os.WriteFile(filepath.Join(env.WorkDir, name), text, 0o600))
	}
	for _, name := range []string{"PORT", "TAKEN"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		_, port, err := net.SplitHostPort(l.Addr().String())
		env.Setenv(name, port)
		if faults = append(faults, err); name == "TAKEN" {
			env.Defer(func() { _ = l.Close() })
			continue
		}
		faults = append(faults, l.Close())
	}
	// In the environment a kit is on one line.
	line, err := json.Marshal(kit)
	env.Setenv("KIT", string(line))
	return errors.Join(append(faults, err, os.WriteFile(filepath.Join(env.WorkDir, "nats.nk"), seed, 0o600))...)
}

// fetch URL prints status, headers and body of a GET.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: fetch url")
	}
	transport := &http.Transport{DisableKeepAlives: true}
	request, err := http.NewRequest(http.MethodGet, args[0], nil)
	ts.Check(err)
	request.Header.Set("Authorization", "Bearer "+ts.Getenv("TOKEN"))
	response, err := transport.RoundTrip(request)
	ts.Check(err)
	defer response.Body.Close()
	ts.Check(response.Write(ts.Stdout()))
}

// crowd ADDRESS FILE REGEXP keeps a hundred connections open until FILE has a line that matches.
func crowd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: crowd address file regexp")
	}
	for range 100 {
		conn, err := net.Dial("tcp", args[0])
		ts.Check(err)
		defer conn.Close()
	}
	relaytest.Logged(ts, false, args[1:])
}
