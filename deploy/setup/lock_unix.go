//go:build unix

package setup

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// openLock opens the directory itself, so that no file is left behind.
func openLock(dir string) (*os.File, error) { return os.Open(dir) }

func waitLock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// tryLock is false only where another has the lock.
func tryLock(f *os.File) bool {
	return !errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
}
