package child

import (
	"os"
	"syscall"

	"golang.org/x/sys/windows"
)

// attributes make the child the root of its console process group.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
}

// signalGroup sends ^Break, the one request to stop that a process group can get here.
func signalGroup(p *os.Process, sig os.Signal) error {
	if sig == syscall.SIGHUP {
		return nil
	}
	return windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(p.Pid))
}

func killGroup(p *os.Process) error { return p.Kill() }

// killRest does nothing: there are no process groups to be killed.
func killRest(int) {}
