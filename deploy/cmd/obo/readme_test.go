package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The policy of deploy/README.md is a good one, and the commands below it say what stands there.
func TestReadmePolicy(t *testing.T) {
	text, err := os.ReadFile(filepath.FromSlash("../../README.md"))
	if err != nil {
		t.Fatal(err)
	}
	policy := regexp.MustCompile("(?s)```yaml\n(type: obo.v1.policy\n.*?)```").FindSubmatch(text)
	console := regexp.MustCompile("(?s)```text\n(\\$ obo policy .*?)```").FindSubmatch(text)
	if policy == nil || console == nil {
		t.Fatal("it has no policy, or no commands for one")
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("policy.yaml", policy[1], 0o600); err != nil {
		t.Fatal(err)
	}
	var have strings.Builder
	for line := range strings.Lines(string(console[1])) {
		command, ok := strings.CutPrefix(line, "$ obo ")
		if !ok {
			continue
		}
		var stdout, stderr bytes.Buffer
		run(t.Context(), strings.Fields(command), strings.NewReader(""), &stdout, &stderr)
		have.WriteString(line + stdout.String() + stderr.String())
	}
	if have.String() != string(console[1]) {
		t.Errorf("it is\n%s\nnot\n%s", have.String(), console[1])
	}
}
