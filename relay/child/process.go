package child

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// Exit statuses of a program that could not be started, as shells have them.
const (
	statusNotExecutable = 126
	statusNotFound      = 127
)

// process is the child.
type process struct {
	cmd  *exec.Cmd
	log  *slog.Logger
	rest bool          // what it leaves in its process group is killed
	gone chan struct{} // closed when it has ended; status is set before

	mu     sync.Mutex
	ended  bool // its id may be another process's
	status int
}

// newProcess prepares a child with this process's own standard streams.
func newProcess(cfg Config) *process {
	cmd := exec.Command(cfg.Words[0], cfg.Words[1:]...)
	cmd.Env, cmd.SysProcAttr = cfg.Env, attributes()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return &process{cmd: cmd, log: cfg.Log, rest: cfg.KillRest, gone: make(chan struct{})}
}

// start returns when the program runs, or why it does not.
func (p *process) start() error {
	started := make(chan error)
	go func() {
		// Linux sends the parent-death signal when the thread ends that started the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.log.Info("app started", "program", p.cmd.Args[0], "pid", p.cmd.Process.Pid) // arguments may be secrets
	return nil
}

func (p *process) wait() {
	group := p.cmd.Process.Pid
	status, err := waitFor(p.cmd)
	if p.rest {
		killRest(group)
	}
	if err != nil {
		p.log.Error("cannot tell how the app ended", "error", err)
		status = 1
	}
	p.mu.Lock()
	p.ended, p.status = true, status
	p.mu.Unlock()
	close(p.gone)
}

// stop asks it to stop.
func (p *process) stop(sig os.Signal) { p.signal(sig) }

func (p *process) done() <-chan struct{} { return p.gone }

// signal passes a signal on to the whole process group.
func (p *process) signal(sig os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd.Process == nil || p.ended {
		return
	}
	p.log.Info("signal passed on to the app", "signal", sig.String())
	if err := signalGroup(p.cmd.Process, sig); err != nil {
		p.log.Warn("the app did not get the signal", "signal", sig.String(), "error", err)
	}
}

// kill ends the whole process group.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd.Process == nil || p.ended {
		return
	}
	if err := killGroup(p.cmd.Process); err != nil {
		p.log.Warn("the app could not be killed", "error", err)
	}
}

// exitStatus is that of a process that has ended.
func (p *process) exitStatus() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// statusOf is what a shell would say of an end.
func statusOf(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// waitForOne waits for the child and no other.
func waitForOne(cmd *exec.Cmd) (int, error) {
	err := cmd.Wait()
	if cmd.ProcessState == nil {
		return 0, err
	}
	ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok {
		return 0, errors.New("unknown wait status")
	}
	return statusOf(ws), nil
}

// startStatus is the exit status for a child that could not be started.
func startStatus(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return statusNotFound
	}
	return statusNotExecutable
}
