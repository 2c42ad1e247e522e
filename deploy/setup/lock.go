package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// lock waits until no other command writes to a directory, and keeps the next one waiting until unlock. A process that dies
// unlocks too, and what it has left half written, keys perhaps, goes now. A directory that is not there needs no lock, and a
// file system without locks has none.
func lock(dir string) (unlock func(), err error) {
	f, err := openLock(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("setup: %w", err)
	}
	_ = waitLock(f)
	for _, pattern := range []string{temporary, "*/" + temporary, "*/*/" + temporary} {
		left, _ := fs.Glob(os.DirFS(dir), pattern) // a directory that cannot be read is told by who writes to it
		for _, path := range left {
			_ = os.RemoveAll(filepath.Join(dir, filepath.FromSlash(path)))
		}
	}
	return func() { _ = f.Close() }, nil
}
