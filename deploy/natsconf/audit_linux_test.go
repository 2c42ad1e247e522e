package natsconf_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/natsconf/natscli"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// A service's records reach the stream that the auditor made with the nats CLI, who reads them, and nobody else does.
func TestAudit(t *testing.T) {
	t.Parallel()
	f := startAudit(t)
	cli, ctx := f.operator(t)
	run := func(args string) string {
		t.Helper()
		out, err := cli.Run(ctx, natsconf.AuditorContext, strings.Fields(args)...)
		if err != nil || strings.Contains(strings.ToLower(out), "permissions violation") {
			t.Fatalf("nats %s: %v\n%s", args, err, out)
		}
		return out
	}
	onlooker := subscribe(t, f.connect(t, inspector), ">")
	run("stream add AUDIT --subjects " + natsconf.AuditSubject("", ">") + " --defaults")

	up := make(chan struct{}, 8)
	service, err := worker.NewAuditStream(worker.AuditStreamConfig{
		NATS:    relay.ConnectConfig{URL: f.server.ClientURL(), NKeySeed: string(f.users[middleware].seed(t)), OnUp: func() { up <- struct{}{} }},
		Subject: natsconf.AuditSubject("", "middleware"), Service: "middleware",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	<-up
	record := worker.AuditRecord{Event: worker.AuditEnded, RequestID: "request-1", Service: "middleware", Method: "GET", Path: "/patients/7"}
	if err := service.Audit(ctx, &record); err != nil {
		t.Fatal(err)
	}

	for args, want := range map[string]string{
		"stream ls":         "AUDIT",
		"stream info AUDIT": "obo.audit.>",
		"stream get AUDIT --last-for obo.audit.middleware": record.Path,
		"stream get AUDIT 1": record.RequestID,
	} {
		if out := run(args); !strings.Contains(out, want) {
			t.Errorf("nats %s: the output should say %q:\n%s", args, want, out)
		}
	}
	for _, args := range []string{"stream view AUDIT", "stream view AUDIT --subject obo.audit.middleware"} {
		out := inTerminal(ctx, t, cli, natsconf.AuditorContext, strings.Fields(args)...)
		for _, want := range []string{record.Path, "Reached apparent end of data"} {
			if !strings.Contains(out, want) || strings.Contains(strings.ToLower(out), "permissions violation") {
				t.Errorf("nats %s: the output should say %q:\n%s", args, want, out)
			}
		}
	}
	for _, args := range []string{"stream purge AUDIT -f", "stream rm AUDIT -f", "stream rmm AUDIT 1 -f", "stream edit AUDIT --max-msgs 1 -f"} {
		if out, err := cli.Run(ctx, natsconf.AuditorContext, append(strings.Fields(args), "--timeout", "1s")...); err == nil {
			t.Errorf("nats %s: not refused:\n%s", args, out)
		}
	}
	if out := run("stream get AUDIT 1 --json"); !json.Valid([]byte(out)) {
		t.Errorf("after what was refused:\n%s", out)
	}
	wantNoRecord(t, f, onlooker, record.Path)
}

// wantNoRecord reads what the inspector saw, up to a message that every onlooker sees.
func wantNoRecord(t *testing.T, f *fixture, onlooker *nats.Subscription, secret string) {
	t.Helper()
	const end = "obo.v1.announce.middleware"
	if err := publish(t, f.connect(t, middleware), nats.NewMsg(end)); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for msg := receive(t, onlooker); msg.Subject != end; msg = receive(t, onlooker) {
		seen++
		if strings.HasPrefix(msg.Subject, "obo.audit.") || strings.HasPrefix(msg.Subject, natsconf.AuditorInbox) || strings.Contains(string(msg.Data), secret) {
			t.Errorf("the inspector saw %s: %s", msg.Subject, msg.Data)
		}
	}
	if seen == 0 {
		t.Error("the inspector saw nothing, not even requests to JetStream")
	}
}

// inTerminal runs the CLI in a terminal, without which nats stream view does not start.
func inTerminal(ctx context.Context, t *testing.T, cli *natscli.CLI, natsContext string, args ...string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := cli.Command(ctx, natsContext, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	out, _ := io.ReadAll(master) // ends with EIO when the other end is closed
	if err := cmd.Wait(); err != nil {
		t.Errorf("nats %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
