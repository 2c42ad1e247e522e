package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// held is a directory to which no other command writes.
type held struct {
	file  *os.File // nil where there is no directory
	alone bool     // false on a file system without locks
}

// lock waits until no other command writes to a directory, and keeps the next one waiting until unlock. A process that dies
// unlocks too. A directory that is not there needs no lock, and a file system without locks has none.
func lock(dir string) (held, error) {
	f, err := openLock(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return held{}, nil
	}
	if err != nil {
		return held{}, fmt.Errorf("setup: %w", err)
	}
	return held{f, waitLock(f) == nil}, nil
}

// Claim takes a directory for as long as a command runs, or until release. It is false where another one has it. Init and Rotate
// do not mind: what they lock is the relay's own directory.
func Claim(dir string) (release func(), free bool, err error) {
	f, err := openLock(dir)
	if err != nil {
		return nil, false, fmt.Errorf("setup: %w", err)
	}
	if !tryLock(f) {
		_ = f.Close()
		return nil, false, nil
	}
	return func() { _ = f.Close() }, true, nil
}

func (h held) unlock() { _ = h.file.Close() }

// sweep takes away what a command that died has left half written, keys perhaps. It looks where a plan writes and nowhere
// else, since a directory may hold more than a relay, and only if nobody may be writing there.
func (h held) sweep(p *plan) {
	if !h.alone {
		return
	}
	for _, dir := range p.dirs() {
		entries, _ := os.ReadDir(dir) // one that cannot be read is told by who writes to it
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), temporary) {
				_ = os.RemoveAll(filepath.Join(dir, entry.Name()))
			}
		}
	}
}

// dirs are all that a plan writes to.
func (p *plan) dirs() []string {
	dirs := []string{p.cfg.Dir, p.cfg.path("inspector"), p.cfg.path("system"), p.cfg.path("auditor"), p.cfg.path("nats", "context")}
	for _, s := range p.sides {
		dirs = append(dirs, p.cfg.path(s.Name))
	}
	return dirs
}
