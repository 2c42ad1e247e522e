//go:build unix

package hostile

import "syscall"

// smallReadBuffer is set before the connection is made, so that the other side never sees a larger window.
func smallReadBuffer(_, _ string, c syscall.RawConn) (err error) {
	fault := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 32<<10) })
	if err == nil {
		err = fault
	}
	return err
}
