package main

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nkeys"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){command: main, "app": app})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: writeSide,
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"logged": relaytest.Logged},
	})
}

// writeSide writes the files of one service, as obo init does, and those of its app's side.
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
	trust := relay.TrustFile{Type: relay.TrustTypeName, Apps: map[string]relay.JWKS{"ui": {Keys: []relay.JWK{app.Public()}}}}
	kit := relay.Kit{Type: relay.KitTypeName, Role: relay.RoleService, Name: "middleware", NATS: "nats://127.0.0.1:1", NKey: string(seed), Key: service.Private(), Trust: trust}
	wrong := kit
	wrong.Role = relay.RoleApp
	env.Setenv("SEED", string(seed))
	env.Setenv("SECRET", service.Private().D)
	var faults []error
	for _, name := range []string{"PORT", "FRONT"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		_, port, err := net.SplitHostPort(l.Addr().String())
		env.Setenv(name, port)
		faults = append(faults, err, l.Close())
	}
	for name, v := range map[string]any{"key.json": service.Private(), "trust.json": trust, "kit.json": kit, "wrong-kit.json": wrong} {
		text, err := relay.PrettyJSON(v)
		faults = append(faults, err, os.WriteFile(filepath.Join(env.WorkDir, name), text, 0o600))
	}
	// In the environment a kit is on one line.
	line, err := json.Marshal(kit)
	env.Setenv("KIT", string(line))
	return errors.Join(append(faults, err, os.WriteFile(filepath.Join(env.WorkDir, "nats.nk"), seed, 0o600))...)
}
