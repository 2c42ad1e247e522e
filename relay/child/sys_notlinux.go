//go:build !linux

package child

import "os/exec"

// Hide does something on Linux only.
func Hide() error { return nil }

func waitFor(cmd *exec.Cmd) (int, error) { return waitForOne(cmd) }
