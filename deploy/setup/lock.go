package setup

import (
	"errors"
	"fmt"
	"io/fs"
)

// lock waits until no other command writes to a directory, and keeps the next one waiting until unlock. A process that dies
// unlocks too. A directory that is not there needs no lock, and a file system without locks has none.
func lock(dir string) (unlock func(), err error) {
	f, err := openLock(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("setup: %w", err)
	}
	_ = waitLock(f)
	return func() { _ = f.Close() }, nil
}
