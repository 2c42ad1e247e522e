package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
)

// tokenFiles keep a fresh token of each visitor, for the commands to copy: readable by their owner only, and in no
// command line. Beside each stands the same as a header line, as "curl -H @FILE" reads it.
type tokenFiles struct {
	stage *Stage
	dir   string
}

// refresh is well below the hour that a token lives.
const refresh = 20 * time.Minute

func newTokenFiles(s *Stage) *tokenFiles {
	f := tokenFilesIn(s.Files.Config.Dir)
	f.stage = s
	return f
}

func tokenFilesIn(dir string) *tokenFiles { return &tokenFiles{dir: filepath.Join(dir, "tokens")} }

func visitors() []string { return []string{VisitorAlice, VisitorBob, VisitorExpired, VisitorNoScope} }

func (f *tokenFiles) token(visitor string) string  { return filepath.Join(f.dir, visitor+".token") }
func (f *tokenFiles) header(visitor string) string { return filepath.Join(f.dir, visitor+".header") }

// claim makes the first file before there is a token for it: by it the directory is known again, also after a first start
// that was killed. Until release no other stage has it; what is not a relay's by then is as it was.
func (f *tokenFiles) claim() (release func(), err error) {
	_, before := os.Stat(f.dir)
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	unlock, free, err := setup.Claim(f.dir)
	if err == nil && !free {
		err = fmt.Errorf("%s is in use by another obo up: stop it, or choose another directory", filepath.Dir(f.dir))
	}
	if err != nil {
		return nil, err
	}
	release = func() {
		if _, none := setup.Read(filepath.Dir(f.dir)); none != nil && errors.Is(before, os.ErrNotExist) {
			_ = os.RemoveAll(f.dir)
		}
		unlock()
	}
	file, err := os.OpenFile(f.token(VisitorAlice), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		release()
		return nil, err
	}
	return release, file.Close()
}

// write makes all files anew; each is replaced as a whole.
func (f *tokenFiles) write() error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	var faults []error
	for _, visitor := range visitors() {
		token, err := f.stage.Token(visitor)
		if err != nil {
			return err
		}
		faults = append(faults,
			replace(f.token(visitor), token+"\n"),
			replace(f.header(visitor), relay.HeaderAccessToken+": "+token+"\n"))
	}
	return errors.Join(faults...)
}

func replace(path, content string) error {
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (f *tokenFiles) run(ctx context.Context) error {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := f.write(); err != nil {
				return err
			}
		}
	}
}
