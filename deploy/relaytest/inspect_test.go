package relaytest_test

import (
	"context"
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/natsconf/natscli"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/worker"
)

var update = flag.Bool("update", false, "write the outputs in deploy/INSPECT.md anew")

const inspectDoc = "../INSPECT.md"

// consoleBlock is a command and its output as INSPECT.md shows them.
var consoleBlock = regexp.MustCompile("(?s)```console\n\\$ nats --context (\\S+) ([^\n]*)\n(.*?)```")

// Every command of INSPECT.md does what is written there: each line of its documented output is one of the real output,
// but for ids, keys, addresses and numbers. A line … stands for what was left out.
func TestInspectDoc(t *testing.T) {
	n, _ := start(t)
	w, _ := n.Worker(says("hello"), func(c *worker.Config) { c.Version = "1.0.0" })
	client := n.Publisher(nil)
	for range 3 {
		send(t, client, "GET", "/groups").want(t, 200, "hello")
	}
	newInspector(t, n).wait(w.Instance(), "three requests are counted", func(s stats) bool { return s.requests >= 3 })
	cli := operator(t, n)
	doc, err := os.ReadFile(inspectDoc)
	relaytest.Must(t, err)
	blocks := consoleBlock.FindAllStringSubmatch(string(doc), -1)
	if len(blocks) < 8 {
		t.Fatalf("%d blocks", len(blocks))
	}
	text := string(doc)
	for _, block := range blocks {
		natsContext, command, want := block[1], block[2], block[3]
		out := runDocumented(t, cli, natsContext, words(command), func() { send(t, client, "GET", "/groups?q=7").want(t, 200, "hello") })
		if *update {
			shown := shorten(out)
			text = strings.Replace(text, block[0], strings.TrimSuffix(block[0], want+"```")+shown+"```", 1)
			want = shown
		}
		have := strings.Split(normal(out), "\n")
		for line := range strings.SplitSeq(normal(want), "\n") {
			line = strings.TrimSuffix(line, "…")
			if strings.Contains(line, ">>> Unexpected NATS error") {
				continue // the CLI may end before its error handler has printed this beside the same error of its own
			}
			if line != "" && !slices.Contains(have, line) {
				t.Errorf("nats %s: no line %q in\n%s", command, line, out)
			}
		}
	}
	if *update {
		relaytest.Must(t, os.WriteFile(inspectDoc, []byte(text), 0o644))
	}
}

// runDocumented runs a command to its end; one that listens gets requests to see meanwhile.
func runDocumented(t *testing.T, cli *natscli.CLI, natsContext string, args []string, request func()) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), relaytest.Patience)
	defer cancel()
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := cli.Run(ctx, natsContext, args...)
		done <- result{out, err}
	}()
	for {
		select {
		case r := <-done:
			if ctx.Err() != nil {
				t.Errorf("nats %v did not end: %s", args, r.out)
			}
			return strings.TrimSpace(r.out)
		default:
		}
		if args[0] == "sub" {
			request()
			continue
		}
		r := relaytest.Recv(t, done, "nats "+strings.Join(args, " "))
		done <- r
	}
}

// words splits a command line at spaces outside of single quotes.
func words(line string) (out []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	return out
}

var variable = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?`), "TIME"},
	{regexp.MustCompile(`\d\d:\d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`\bey[A-Za-z0-9_.-]{60,}`), "JWS"},
	{regexp.MustCompile(`\bN[A-Z2-7]{55}\b`), "SERVER"},
	{regexp.MustCompile(`\b[UA][A-Z2-7]{55}\b`), "NKEY"},
	{regexp.MustCompile(`\b[a-z2-7]{26}\b`), "ID"},
	{regexp.MustCompile(`\b[a-z2-7]{16}\b`), "INSTANCE"},
	{regexp.MustCompile(`[A-Za-z0-9_-]{43}`), "KEY"},
	{regexp.MustCompile(`[0-9][0-9.,]*( ?(ns|µs|us|ms|s|m|h|B|KiB|MiB|GiB|KB|MB|GB|b))?\b`), "0"},
	{regexp.MustCompile(`[─═╭╮╰╯│├┤┬┴┼]+`), " "},
	{regexp.MustCompile(`[ \t]+`), " "},
	{regexp.MustCompile(` ?\n ?`), "\n"},
}

// normal leaves out what differs from run to run.
func normal(text string) string {
	for _, v := range variable {
		text = v.pattern.ReplaceAllString(text, v.with)
	}
	return strings.TrimSpace(text)
}

// shorten is the output as it is shown.
func shorten(out string) string {
	lines := strings.Split(out, "\n")
	var kept []string
	for _, line := range lines {
		line = strings.TrimRight(line, " \t")
		if r := []rune(line); len(r) > 160 && strings.HasPrefix(line, "ey") {
			line = string(r[:100]) + "…"
		}
		if line == "" && (len(kept) == 0 || kept[len(kept)-1] == "") {
			continue
		}
		kept = append(kept, line)
	}
	if len(kept) > 45 {
		kept = append(kept[:45], "…")
	}
	return strings.Join(kept, "\n") + "\n"
}
