package relaytest_test

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/natsconf/natscli"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

// operator is the real nats CLI with the contexts that obo init writes.
func operator(t *testing.T, n *relaytest.Net) *natscli.CLI {
	t.Helper()
	dir := t.TempDir()
	seed := func(name string, u relaytest.User) string {
		path := filepath.Join(dir, name+".nk")
		relaytest.Must(t, os.WriteFile(path, []byte(u.Seed), 0o600))
		return path
	}
	_, err := natsconf.CLI{URL: n.URL, InspectorSeedFile: seed("inspector", n.Inspector), SystemSeedFile: seed("system", n.Sys)}.Write(dir)
	relaytest.Must(t, err)
	return natscli.New(t, dir)
}

// running is a nats command that goes on until it is stopped.
type running struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  relaytest.Log
	done chan struct{}
}

// startCLI starts a command and waits until its output says that it is ready.
func startCLI(t *testing.T, cli *natscli.CLI, ready string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &running{t: t, cmd: cli.Command(ctx, natsconf.InspectorContext, args...), done: make(chan struct{})}
	out, err := r.cmd.StdoutPipe()
	relaytest.Must(t, err)
	r.cmd.Stderr = r.cmd.Stdout
	relaytest.Must(t, r.cmd.Start())
	go func() {
		defer close(r.done)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			_, _ = r.out.Write(append(bytes.Clone(lines.Bytes()), '\n'))
		}
		_ = r.cmd.Wait() // it is killed
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	if ready != "" {
		r.out.Wait(t, ready)
	}
	return r
}

// What the operator sees with the inspector's context: the worker with counters that mean something.
func TestCLIMicro(t *testing.T) {
	n, _ := start(t)
	b := newBlocker()
	close(b.resume)
	w, _ := n.Worker(b.handler("done"), nil)
	client := n.Publisher(nil)
	for range 3 {
		send(t, client, "POST", "/").want(t, 200, "done")
	}
	newInspector(t, n).wait(w.Instance(), "three requests are counted", func(s stats) bool { return s.requests == 3 })
	cli := operator(t, n)
	for args, want := range map[string][]string{
		"micro ls":                                          {"obo-middleware", w.Instance()},
		"micro ping --timeout 2s":                           {"obo-middleware", w.Instance()},
		"micro info obo-middleware":                         {"obo-middleware", w.Instance(), "requests", "obo.v1.*.middleware." + w.Instance() + ".>", "trusted_apps: ui", "state: ready"},
		"micro info obo-middleware " + w.Instance():         {"acts as the person who sent the request"},
		"micro stats obo-middleware":                        {w.Instance(), "requests", "3"},
		"micro stats obo-middleware --json":                 {`"num_requests": 3`, `"num_errors": 0`, `"done": 3`, `"capacity": 256`, `"in_flight": 0`, `"replay_cache": 3`},
		"req $SRV.PING.obo-middleware x --timeout 2s":       {w.Instance(), "io.nats.micro.v1.ping_response"},
		"pub obo.v1.discover.middleware x":                  {"Published"},
		"sub obo.v1.announce.middleware --count 1":          {"obo.v1.announce.middleware"},
		"sub obo.v1.> --count 1 --headers-only":             {"obo.v1."},
		"rtt":                                               {"127.0.0.1"},
		"micro stats obo-middleware --json " + w.Instance(): {`"average_processing_time"`},
	} {
		t.Run(args, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
			defer cancel()
			out, err := cli.Run(ctx, natsconf.InspectorContext, strings.Fields(args)...)
			for _, part := range want {
				if err != nil || !strings.Contains(out, part) {
					t.Errorf("%v, and the output should say %q:\n%s", err, part, out)
					break
				}
			}
		})
	}
}

// Requests and replies are readable on their way: who, what, how it ended; and nothing of what was said.
func TestCLISub(t *testing.T) {
	for _, headersOnly := range []bool{false, true} {
		name := "whole"
		args := []string{"sub", "obo.v1.>"}
		if headersOnly {
			name = "headers only"
			args = append(args, "--headers-only")
		}
		t.Run(name, func(t *testing.T) {
			n, _ := start(t)
			n.Worker(says("CANARY-response"), nil)
			client := n.Publisher(nil)
			send(t, client, "POST", "/warm").want(t, 200, "CANARY-response")
			cli := operator(t, n)
			r := startCLI(t, cli, "Subscribing on obo.v1.>", args...)
			for i := 0; !strings.Contains(r.out.String(), "Obo-Method: PROPFIND"); i++ { // until its subscription is there
				send(t, client, "PROPFIND", "/groups/7?secret=CANARY-query").want(t, 200, "CANARY-response")
				if i > 1000 {
					t.Fatal(r.out.String())
				}
			}
			for _, want := range []string{"obo.v1.req.middleware.", ".ui", "Obo-Method: PROPFIND", "Obo-Path: /groups/7", "Obo-Id: ", "obo.v1.rep.ui.", "Obo-Status: 200"} {
				r.out.Wait(t, want)
			}
			if text := r.out.String(); strings.Contains(text, "CANARY") || strings.Contains(text, "secret") {
				t.Errorf("what was said can be read:\n%s", text)
			}
			// Announcements stand between them.
			if out, err := cli.Run(t.Context(), natsconf.InspectorContext, "pub", "obo.v1.discover.middleware", ""); err != nil {
				t.Errorf("%v %s", err, out)
			}
			r.out.Wait(t, "obo.v1.announce.middleware")
			r.out.Wait(t, "obo.v1.discover.middleware")
		})
	}
}

// The inspector looks on: it sends no request, plays none again, and takes none away.
func TestCLICannotActOrSteal(t *testing.T) {
	n, _ := start(t)
	handler := &counter{handler: says("hello")}
	w, _ := n.Worker(handler, nil)
	client := n.Publisher(nil)
	tap := n.Tap(n.Inspector, "obo.v1.req.>")
	send(t, client, "POST", "/").want(t, 200, "hello")
	captured := tap.Wait(".req.", 1)
	cli := operator(t, n)
	file := filepath.Join(t.TempDir(), "captured")
	relaytest.Must(t, os.WriteFile(file, captured.Data, 0o600))
	for _, args := range [][]string{
		{"pub", captured.Subject, "x"},
		{"request", captured.Subject, "x", "--timeout", "1s"},
		{"pub", captured.Subject, "--reply", captured.Reply, "x"},
		{"pub", captured.Reply, "x"},
		{"pub", "obo.v1.announce.middleware", "x"},
		{"sub", "obo.v1.*.middleware." + w.Instance() + ".>", "--queue", "thieves", "--count", "1", "--timeout", "2s"},
		{"sub", ">", "--queue", "thieves", "--wait", "1s"},
		{"reply", captured.Subject, "x", "--queue", "thieves", "--count", "1", "--timeout", "1s"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
		out, err := cli.Run(ctx, natsconf.InspectorContext, args...)
		cancel()
		if !strings.Contains(strings.ToLower(out), "permissions violation") {
			t.Errorf("nats %v: the refusal is not visible (%v):\n%s", args, err, out)
		}
	}
	thief := startCLI(t, cli, "", "sub", "obo.v1.req.>", "--queue", "thieves")
	for range 50 {
		send(t, client, "POST", "/").want(t, 200, "hello")
	}
	handler.want(t, 51)
	if strings.Contains(thief.out.String(), "Obo-Id") {
		t.Errorf("the thief got requests:\n%s", thief.out.String())
	}
}
