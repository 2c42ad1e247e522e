//go:build unix && !linux

package child

import "syscall"

// attributes make the child the leader of its process group.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
