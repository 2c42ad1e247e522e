package relaytest

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/local"
)

// Build compiles obo-broker, obo-publisher and obo-worker into dir and returns where they are: OBO_BIN names a directory with
// other builds of them.
func Build(tb testing.TB, dir string) string {
	tb.Helper()
	if bin := os.Getenv("OBO_BIN"); bin != "" {
		return bin
	}
	const module = "github.com/obo-relay/obo-relay/"
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-o", dir+string(filepath.Separator),
		module+"publisher/cmd/obo-publisher", module+"worker/cmd/obo-worker", module+"deploy/cmd/obo-broker")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// FreePorts are ports that nobody listens on at the moment.
func FreePorts(tb testing.TB, n int) (ports []string) {
	tb.Helper()
	for len(ports) < n {
		port, err := local.FreePort()
		Must(tb, err)
		if p := strconv.Itoa(port); !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	return ports
}

// Process is a program that can be ended and started again. Nothing is in its environment but PATH, HOME and Env.
type Process struct {
	Path string
	Args []string
	Env  []string
	Log  io.Writer // gets its output. Defaults to nowhere

	cmd *exec.Cmd
}

// Name is the program's.
func (p *Process) Name() string { return filepath.Base(p.Path) }

// Pid is that of the process that was started last.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Start starts it; the end of the test, if nothing before, kills it.
func (p *Process) Start(tb testing.TB) {
	tb.Helper()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + tb.TempDir()}, p.Env...)
	cmd.Stdout, cmd.Stderr = p.Log, p.Log
	cmd.WaitDelay = time.Second
	Must(tb, cmd.Start())
	p.cmd = cmd
	tb.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = end(cmd, syscall.SIGKILL) // its exit status says that it was killed
		}
	})
}

// End sends it a signal and waits for its end; the error tells of an exit status other than 0.
func (p *Process) End(sig syscall.Signal) error { return end(p.cmd, sig) }

func end(cmd *exec.Cmd, sig syscall.Signal) error {
	if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return cmd.Wait()
}
