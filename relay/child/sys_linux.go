package child

import (
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// attributes make the child the leader of its process group, which is killed with its parent.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// Hide keeps other processes of the same user from reading this one's environment and memory, and prevents core dumps. It
// must come before the first secret is read and before a child is started.
func Hide() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }

// waitFor waits for the child. In a process that orphans are given to it buries those too.
func waitFor(cmd *exec.Cmd) (int, error) {
	if !getsOrphans() {
		return waitForOne(cmd)
	}
	return waitForAll(cmd)
}

// waitForAll buries every child that ends, until the one does. Nobody calls cmd.Wait then. Nor Release: it makes the id -1, and
// whoever still signals the child's group would signal process 1.
func waitForAll(cmd *exec.Cmd) (int, error) {
	for {
		var ws syscall.WaitStatus
		switch pid, err := syscall.Wait4(-1, &ws, 0, nil); {
		case err == syscall.EINTR:
		case err != nil:
			return 0, os.NewSyscallError("wait4", err)
		case pid == cmd.Process.Pid:
			return statusOf(ws), nil
		}
	}
}

// getsOrphans tells whether this process has to bury others than its own children.
func getsOrphans() bool {
	if os.Getpid() == 1 {
		return true
	}
	var subreaper int32
	err := unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&subreaper)), 0, 0, 0)
	return err == nil && subreaper != 0
}
