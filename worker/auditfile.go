package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// AuditFile keeps audit records in a file, one line of JSON each, appended in one write, so that several workers may
// share it. A file that was moved or removed is made anew at the next record; Reopen does it at once.
//
// Records are handed to the operating system, not forced to the disk: a crash of the machine may lose the last ones.
type AuditFile struct {
	path string

	mu     sync.Mutex
	file   *os.File    // nil if it could not be opened, or is closed
	info   os.FileInfo // of file
	torn   bool        // the last line has no end
	closed bool
}

// NewAuditFile opens a file for appending; a new one can be read by its owner only.
func NewAuditFile(path string) (*AuditFile, error) {
	a := &AuditFile{path: path}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.open(); err != nil {
		return nil, err
	}
	return a, nil
}

// Audit appends a record.
func (a *AuditFile) Audit(_ context.Context, r *AuditRecord) error {
	line, err := auditLine(r)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errors.New("audit file: closed")
	}
	if err := a.follow(); err != nil {
		return err
	}
	if a.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := a.file.Write(line)
	if err != nil {
		a.torn = a.torn && n == 0 || n > 0
		return a.explain(err)
	}
	a.torn = false
	return nil
}

// Reopen opens the file anew, for log rotation.
func (a *AuditFile) Reopen() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errors.New("audit file: closed")
	}
	return a.open()
}

// Close closes the file. Later records fail.
func (a *AuditFile) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	return a.drop()
}

// follow makes sure that the open file is the one at the path.
func (a *AuditFile) follow() error {
	if a.file != nil {
		if info, err := os.Stat(a.path); err == nil && os.SameFile(info, a.info) {
			return nil
		}
	}
	return a.open()
}

// open replaces the open file only by one that is fit; otherwise the old one, moved away, is not written to any more.
func (a *AuditFile) open() error {
	_ = a.drop() // each record is written already
	// O_NONBLOCK: opening a pipe that nobody reads would block for ever.
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return a.explain(err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("audit file %s: not a regular file: want a path for one, or - for standard output", a.path)
	case info.Mode().Perm()&0o007 != 0:
		err = fmt.Errorf("audit file %s has mode %04o, so anybody on this machine can read or change it: chmod 600 %s", a.path, info.Mode().Perm(), a.path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	a.file, a.info, a.torn = f, info, tornAt(a.path)
	return nil
}

// tornAt reports whether the last line of a file is not whole: a worker that was killed may have left half a one. Another worker
// may just be writing, and what is seen of its line grows page by page, so it is looked at a few times.
func tornAt(path string) bool {
	for range 3 {
		if endsInNewline(path) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

// endsInNewline reports whether a file is empty or its last line whole, as far as that can be read.
func endsInNewline(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return true
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, size-1); err != nil && !errors.Is(err, io.EOF) {
		return true
	}
	return last[0] == '\n'
}

func (a *AuditFile) drop() error {
	if a.file == nil {
		return nil
	}
	err := a.file.Close()
	a.file, a.info = nil, nil
	return err
}

// explain adds what to do.
func (a *AuditFile) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("audit file %s: %w: free space on that disk, or name a file on another with --audit; records are kept again by themselves as soon as there is room", a.path, err)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("audit file %s: %w: let the user that runs the worker write it", a.path, err)
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("audit file %s: %w: make its directory", a.path, err)
	}
	return fmt.Errorf("audit file %s: %w: look at that disk, or name a file on another with --audit", a.path, err)
}
