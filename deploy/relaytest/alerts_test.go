package relaytest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

const alertsDoc = "../ALERTS.md"

// Every check of ALERTS.md passes with the output that is written there while all is well, and alarms when there is no
// worker, or no server.
func TestAlertsDoc(t *testing.T) {
	t.Parallel()
	n := relaytest.NewWith(t, new(relaytest.Log), relaytest.Options{ServerConf: func(text string) string { return "server_name: obo\n" + text }})
	_, stop := n.Worker(says("hello"), nil)
	client := n.Publisher(nil)
	send(t, client, "GET", "/groups").want(t, 200, "hello")
	cli := operator(t, n)
	doc, err := os.ReadFile(alertsDoc)
	relaytest.Must(t, err)
	blocks := consoleBlock.FindAllStringSubmatch(string(doc), -1)
	if len(blocks) < 3 {
		t.Fatalf("%d blocks", len(blocks))
	}
	run := func(block []string) (string, int) {
		ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
		defer cancel()
		out, err := cli.Run(ctx, block[1], words(block[2])...)
		status := 0
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			status = exit.ExitCode()
		} else {
			relaytest.Must(t, err)
		}
		return strings.TrimSpace(out), status
	}
	text := string(doc)
	for _, block := range blocks {
		out, status := run(block)
		if *update {
			text = strings.Replace(text, block[0], strings.TrimSuffix(block[0], block[3]+"```")+shorten(out)+"```", 1)
			block[3] = out
		}
		if status != 0 || !slices.Equal(strings.Split(normal(out), "\n"), strings.Split(normal(block[3]), "\n")) {
			t.Errorf("nats %s: status %d, want 0 and %s, have %s", block[2], status, block[3], out)
		}
	}
	if *update {
		relaytest.Must(t, os.WriteFile(alertsDoc, []byte(text), 0o644))
	}
	alarm := func(when string, block []string) {
		if out, status := run(block); status != 2 || !strings.Contains(out, "CRITICAL") {
			t.Errorf("%s, nats %s: status %d, want 2: %s", when, block[2], status, out)
		}
	}
	stop()
	for _, block := range blocks {
		if strings.Contains(block[2], "check request") {
			alarm("without a worker", block)
		}
	}
	n.StopBroker()
	for _, block := range blocks {
		alarm("without a server", block)
	}
}
