package natsconf_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/natsconf/natscli"
)

const inspectorContext, systemContext = natsconf.InspectorContext, natsconf.SystemContext

// operator is the fixture's server with the real nats CLI beside it.
func operator(t *testing.T) (*fixture, *natscli.CLI, context.Context) {
	t.Helper()
	f := start(t, nil)
	cli, ctx := f.operator(t)
	return f, cli, ctx
}

func (f *fixture) operator(t *testing.T) (*natscli.CLI, context.Context) {
	t.Helper()
	dir := t.TempDir()
	seedFile := func(name string) string {
		path := filepath.Join(dir, name+".nk")
		if err := os.WriteFile(path, f.users[name].seed(t), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	_, err := natsconf.CLI{
		URL:               f.server.ClientURL(),
		InspectorSeedFile: seedFile(inspector),
		SystemSeedFile:    seedFile(system),
		AuditorSeedFile:   seedFile(auditor),
	}.Write(dir)
	if err != nil {
		t.Fatal(err)
	}
	cli := natscli.New(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return cli, ctx
}

// serviceStub is a NATS micro service as a worker is one: its name, no queue group.
func serviceStub(t *testing.T, f *fixture) micro.Service {
	t.Helper()
	service, err := micro.AddService(f.connect(t, middleware), micro.Config{
		Name: "obo-middleware", Version: "1.2.3", Description: "stub", QueueGroupDisabled: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Stop() })
	// nats micro stats shows instances by their endpoints: without one there is no line with an id.
	if err := service.AddEndpoint("requests", micro.HandlerFunc(func(micro.Request) {}), micro.WithEndpointSubject("obo.v1.discover.middleware")); err != nil {
		t.Fatal(err)
	}
	return service
}

func TestCLI(t *testing.T) {
	t.Parallel()
	f, cli, ctx := operator(t)
	service := serviceStub(t, f)
	worker := subscribe(t, f.connect(t, middleware), "obo.v1.*.middleware.i1.>")
	witness := f.connect(t, root)
	seen := subscribe(t, witness, "obo.v1.>")

	for _, c := range []struct {
		context string
		args    string
		want    string
	}{
		{inspectorContext, "micro ls", "obo-middleware"},
		{inspectorContext, "micro ping --timeout 1s", service.Info().ID},
		{inspectorContext, "micro info obo-middleware", "1.2.3"},
		{inspectorContext, "micro stats obo-middleware", service.Info().ID},
		{inspectorContext, "rtt", "127.0.0.1"},
		{inspectorContext, "pub obo.v1.discover.middleware x", "Published"},
		{systemContext, "server list", f.server.Name()},
		{systemContext, "server report connections", "OBO"},
		{systemContext, "server report accounts", "OBO"},
		{systemContext, "server info", f.server.ID()},
		{systemContext, "server ping 1", f.server.Name()},
	} {
		t.Run(c.args, func(t *testing.T) {
			out, err := cli.Run(ctx, c.context, strings.Fields(c.args)...)
			if err != nil || !strings.Contains(out, c.want) {
				t.Errorf("%v, and the output should say %q:\n%s", err, c.want, out)
			}
		})
	}

	for _, args := range []string{
		"pub obo.v1.req.middleware.i1.ui x",
		"pub obo.v1.rep.ui.r1.id1 x",
		"pub obo.v1.announce.middleware x",
		"request obo.v1.req.middleware.i1.ui x --timeout 1s",
		"sub obo.v1.> --queue thieves --wait 1s",
		"reply obo.v1.req.middleware.i1.ui x --queue thieves --count 1 --timeout 1s",
	} {
		t.Run("refused: "+args, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			out, err := cli.Run(ctx, inspectorContext, strings.Fields(args)...)
			t.Logf("exit: %v\n%s", err, out)
			if !strings.Contains(strings.ToLower(out), "permissions violation") {
				t.Errorf("the refusal is not visible (%v):\n%s", err, out)
			}
		})
	}

	// What was refused did not arrive, neither here nor there.
	if err := publish(t, witness, nats.NewMsg("obo.v1.req.middleware.i1.end")); err != nil {
		t.Fatal(err)
	}
	if msg := receive(t, worker); msg.Subject != "obo.v1.req.middleware.i1.end" {
		t.Errorf("the worker received %s", msg.Subject)
	}
	for msg := receive(t, seen); msg.Subject != "obo.v1.req.middleware.i1.end"; msg = receive(t, seen) {
		if msg.Subject != "obo.v1.discover.middleware" {
			t.Errorf("%s arrived", msg.Subject)
		}
	}
}

// "nats sub" sees a request on its way, and the worker still gets it.
func TestCLISubscribes(t *testing.T) {
	t.Parallel()
	f, cli, ctx := operator(t)
	worker := subscribe(t, f.connect(t, middleware), "obo.v1.*.middleware.i1.>")
	cmd := cli.Command(ctx, inspectorContext, "sub", "obo.v1.>", "--count", "1", "--headers-only")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	app := f.connect(t, ui)
	var text strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "Subscribing on obo.v1.>") {
			waitForSubscription(t, f, inspector)
			if err := publish(t, app, &nats.Msg{Subject: "obo.v1.req.middleware.i1.ui", Header: nats.Header{"Obo-Method": {"GET"}}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("nats sub: %v\n%s", err, &text)
	}
	for _, want := range []string{"obo.v1.req.middleware.i1.ui", "Obo-Method: GET"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("output lacks %q:\n%s", want, &text)
		}
	}
	receive(t, worker)
}

// waitForSubscription asks the server, through the system account, until the user has a subscription.
func waitForSubscription(t *testing.T, f *fixture, name string) {
	t.Helper()
	nc := f.connect(t, system, nats.CustomInboxPrefix(natsconf.SystemInbox))
	query := []byte(`{"user": "` + f.users[name].public + `", "auth": true}`)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		msg, err := nc.Request("$SYS.REQ.SERVER.PING.CONNZ", query, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		var answer struct {
			Data struct {
				Connections []struct {
					Subscriptions int `json:"subscriptions"`
				} `json:"connections"`
			} `json:"data"`
		}
		if err := json.Unmarshal(msg.Data, &answer); err != nil {
			t.Fatal(err)
		}
		for _, c := range answer.Data.Connections {
			if c.Subscriptions > 0 {
				return
			}
		}
	}
	t.Fatalf("%s never subscribed", name)
}
