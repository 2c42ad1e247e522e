package relay

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Changes are called with what a side's files say anew.
type Changes struct {
	Trust    func(*Trust)
	Identity func(Identity)
}

// Watch reads the files that trust and identity key came from, kit files too, now and then every so often until ctx ends. It
// calls changes.Trust the first time, in case the file has changed since it was loaded, and both whenever the content
// changes. A file that is missing, faulty, or secret and open to others changes nothing: what is in force stays, and the
// log says why. What came from a pipe is not read again. If nothing came from a file it returns at once.
//
// The whole file is compared, not its time of modification, which two changes in quick succession may share.
func (s *Side) Watch(ctx context.Context, every time.Duration, log *slog.Logger, changes Changes) {
	var all sync.WaitGroup
	for _, f := range s.watched {
		if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() { // a pipe gives its content once, and would be waited for
			continue
		}
		w := &watch{watchedFile: f, log: log, changes: changes, kid: s.Identity.Kid()}
		all.Go(func() { w.run(ctx, every) })
	}
	all.Wait()
}

// watchedFile is a file that is read again when it changes.
type watchedFile struct {
	what  string // it is
	path  string
	read  func(string) ([]byte, error)
	parse func([]byte) (content, error)

	holdsKey bool // that is in force
}

// content is what a file says of what may change; the rest is zero.
type content struct {
	trust    *Trust
	identity Identity
	nkey     string
}

type watch struct {
	watchedFile
	log     *slog.Logger
	changes Changes
	kid     string // of the identity in force
	nkey    string // of the NATS user in force
	looked  bool
	data    []byte // what was last read, good or not
	fault   string // why it could not be read
}

func (w *watch) run(ctx context.Context, every time.Duration) {
	w.look()
	w.warnAge(time.Now())
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.look()
		}
	}
}

// maxKeyAge is how long an identity key is used without a warning.
const maxKeyAge = 365 * 24 * time.Hour

// warnAge tells that a key is old. It cannot be younger than its file's last change.
func (w *watch) warnAge(now time.Time) {
	info, err := os.Stat(w.path)
	if err == nil && w.holdsKey && now.Sub(info.ModTime()) > maxKeyAge {
		w.log.Warn("the identity key has not been replaced for more than a year: see obo keys", "path", w.path, "unchanged_since", info.ModTime().Format(time.DateOnly))
	}
}

func (w *watch) look() {
	data, err := w.read(w.path)
	if err != nil {
		if err.Error() != w.fault {
			w.log.Error("the "+w.what+" cannot be read, what is in force stays", "path", w.path, "error", err)
		}
		w.fault = err.Error()
		return
	}
	w.fault = ""
	if w.looked && bytes.Equal(data, w.data) {
		return
	}
	first := !w.looked
	w.looked, w.data = true, data
	said, err := w.parse(data)
	if err != nil {
		w.log.Error("the "+w.what+" is faulty, what is in force stays", "path", w.path, "error", err)
		return
	}
	w.apply(said, first)
}

func (w *watch) apply(said content, first bool) {
	if said.trust != nil {
		w.changes.Trust(said.trust)
		if !first {
			w.log.Info(w.what+" read again", "path", w.path, "apps", said.trust.summary(RoleApp), "services", said.trust.summary(RoleService))
		}
	}
	if kid := said.identity.Kid(); kid != "" && kid != w.kid {
		w.changes.Identity(said.identity)
		w.log.Info("identity key replaced", "path", w.path, "key", kid, "before", w.kid)
		w.kid = kid
	}
	if w.nkey != "" && said.nkey != w.nkey {
		w.log.Warn("the key of the NATS user has changed, restart to use it", "path", w.path)
	}
	w.nkey = said.nkey
}
