package broker

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoggerKeepsPayloadsOut(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := &logger{slog.New(slog.NewTextHandler(&out, nil)), nil}
	const canary = "CANARY"
	l.Errorf("%s - %s", "127.0.0.1:1 - cid:5", errors.New(`Client parser ERROR, state=0, i=0: proto='"xCANARY\r\n"...'`))
	l.Errorf("processPub Parse Error: %q", canary)
	l.Errorf("processPub Bad or Missing Size: %q", canary)
	l.Errorf("processHeaderPub Bad or Missing Header Size: %q", canary)
	l.Errorf("processHeaderPub Header Size larger then TotalSize: %q", canary)
	l.Errorf("State %d, max_control_line %d, Buffer len %d (snip: %s...)", 1, 2, 3, canary)
	l.Tracef("<<- [MSG_PAYLOAD: %q]", canary)
	l.Warnf("two\nlines")
	if strings.Contains(out.String(), canary) {
		t.Errorf("payload in the log:\n%s", out.String())
	}
	if lines := strings.Count(out.String(), "\n"); lines != 7 {
		t.Errorf("%d lines, want one an event:\n%s", lines, out.String())
	}
	for _, want := range []string{"level=ERROR", "level=WARN", "cid:5", "parser ERROR"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, out.String())
		}
	}
}

// With JetStream the server would draw its name over four lines of the log.
func TestNoBanner(t *testing.T) {
	t.Parallel()
	log := &syncBuffer{}
	_, stop := run(t, Config{ConfigText: openText + "jetstream: { store_dir: \"" + filepath.ToSlash(t.TempDir()) + "\" }\n", Log: slog.New(slog.NewTextHandler(log, nil))})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); !strings.Contains(text, "JetStream") || strings.Contains(text, "___") {
		t.Error(text)
	}
}
