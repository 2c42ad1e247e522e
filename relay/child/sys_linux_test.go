package child

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLinuxScripts(t *testing.T) { runScripts(t, "testdata/linux") }

// The wait of a process that orphans are given to leaves the child's id what it was: signal and kill read it until the end is
// noted, and minus that of a released process is 1.
func TestWaitForAllKeepsTheID(t *testing.T) { // not beside others: it takes their children's ends
	cmd := exec.Command("sh", "-c", "exit 3")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	before := cmd.Process.Pid
	if status, err := waitForAll(cmd); status != 3 || err != nil || cmd.Process.Pid != before {
		t.Errorf("status %d, %v; the id was %d and is %d", status, err, before, cmd.Process.Pid)
	}
}

func becomeSubreaper() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// ordinary runs a program without root's power to read everything.
func ordinary() {
	runtime.LockOSThread()
	if os.Geteuid() == 0 {
		must(unix.Prctl(unix.PR_SET_SECUREBITS, secureNoRoot, 0, 0, 0))
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	must(unix.Capset(&header, &none[0]))
	program, err := exec.LookPath(os.Args[1])
	must(err)
	must(syscall.Exec(program, os.Args[1:], os.Environ()))
}

// secureNoRoot is SECBIT_NOROOT: executing a program as root gives no capabilities (capabilities(7)).
const secureNoRoot = 1

// spy is a child that tries to read its parent's secrets.
func spy() {
	dir := fmt.Sprintf("/proc/%d/", os.Getppid())
	environ, err := os.ReadFile(dir + "environ")
	fmt.Println("environ readable:", err == nil && strings.Contains(string(environ), "OBO_KEY=secret"))
	mem, err := os.Open(dir + "mem")
	if err == nil {
		err = mem.Close()
	}
	fmt.Println("memory:", err)
}
