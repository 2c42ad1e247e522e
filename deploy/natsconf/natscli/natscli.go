// Package natscli runs the real nats CLI in tests, as an operator would: with contexts written by package natsconf.
//
// The CLI is pinned in deploy/tools/go.mod. The go command builds it once and keeps it in its build cache; by hand it
// is
//
//	go tool -modfile=deploy/tools/go.mod nats --version
package natscli

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// CLI is a built nats command with its configuration directory.
type CLI struct {
	path string
	dir  string
}

// New builds the CLI, which takes about a minute when the build cache does not have it yet. dir is the directory that
// [natsconf.CLI.Write] wrote the contexts to.
func New(t testing.TB, dir string) *CLI {
	t.Helper()
	root := output(t, "", "go", "env", "GOMOD")
	modfile := filepath.Join(filepath.Dir(root), "deploy", "tools", "go.mod")
	// -n prints the path of the tool in the build cache instead of running it.
	return &CLI{output(t, filepath.Dir(root), "go", "tool", "-modfile="+modfile, "-n", "nats"), dir}
}

func output(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.Bytes())
	}
	return strings.TrimSpace(string(out))
}

// Command is the CLI with a context, ready to run. Nothing of the user's own configuration or environment reaches it.
func (c *CLI) Command(ctx context.Context, natsContext string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.path, append([]string{"--context", natsContext}, args...)...)
	cmd.Env = []string{"XDG_CONFIG_HOME=" + c.dir, "HOME=" + c.dir, "PATH=" + os.Getenv("PATH"), "NO_COLOR=1"}
	return cmd
}

// Run runs the CLI to its end and returns standard output and error together.
func (c *CLI) Run(ctx context.Context, natsContext string, args ...string) (string, error) {
	out, err := c.Command(ctx, natsContext, args...).CombinedOutput()
	return string(out), err
}
