//go:build unix

package child

import (
	"os"
	"syscall"
)

func signalGroup(p *os.Process, sig os.Signal) error {
	return syscall.Kill(-p.Pid, sig.(syscall.Signal)) // every os.Signal is one here
}

func killGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }

// killRest kills what is left of a process group whose leader has ended. Its number is not given to another process while
// there is anything left, and is the last to come around again when there is not.
func killRest(group int) { _ = syscall.Kill(-group, syscall.SIGKILL) } // most often there is nothing
