package setup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// temporary is how the names of files and directories begin that are not in place yet. Nobody else has such names.
const temporary = ".obo-new-"

// files writes whole files or nothing. fill is os.File.Write, or in tests a disk that is full.
type files struct {
	fill    func(*os.File, []byte) (int, error)
	changed func(path string) // is told of each file that was written. Defaults to nothing
}

// create writes a file that must not exist: a key is never replaced.
func (f files) create(path string, data []byte, mode os.FileMode) error {
	return f.write(path, data, mode, func(temporary string) error {
		defer os.Remove(temporary)
		err := os.Link(temporary, path) // unlike a rename it fails where there is a file
		if errors.Is(err, os.ErrExist) {
			err = fmt.Errorf("another run has just made it, run this again: %w", cause(err))
		}
		return err
	})
}

// replace writes a file that may exist. One that is as it should be keeps its time.
func (f files) replace(path string, data []byte, mode os.FileMode) error {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm() == mode {
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
			return nil
		}
	}
	return f.write(path, data, mode, func(temporary string) error { return os.Rename(temporary, path) })
}

func (f files) write(path string, data []byte, mode os.FileMode, place func(temporary string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("setup: %s: %w", path, err)
	}
	t, err := os.CreateTemp(filepath.Dir(path), temporary+"*") // with mode 0600
	if err != nil {
		return fmt.Errorf("setup: %s: %w", path, err)
	}
	_, err = f.fill(t, data)
	if err == nil {
		err = t.Chmod(mode)
	}
	if err == nil {
		err = t.Sync()
	}
	if err = errors.Join(err, t.Close()); err == nil {
		err = place(t.Name())
	}
	if err != nil {
		_ = os.Remove(t.Name()) // the fault is what matters
		return fmt.Errorf("setup: %s: %w", path, cause(err))
	}
	if f.changed != nil {
		f.changed(path)
	}
	return nil
}

// cause drops the temporary name from an error's text.
func cause(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}
