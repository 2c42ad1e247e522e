package relay

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"time"
)

// WatchTrust reads a trust file now and then every so often until ctx ends, and calls apply with what it says: the first
// time, in case it has changed since the caller read it, and whenever its content changes. A file that is missing or
// faulty changes nothing: the trust in force stays, and the log says why.
//
// The whole file is compared, not its time of modification, which two changes in quick succession may share.
func WatchTrust(ctx context.Context, path string, every time.Duration, log *slog.Logger, apply func(*Trust)) {
	watchTrust(ctx, path, every, ParseTrust, log, apply)
}

// WatchTrust is the function WatchTrust for the file that the side's trust came from, a kit file too. If it came from no
// file it returns at once.
func (s *Side) WatchTrust(ctx context.Context, every time.Duration, log *slog.Logger, apply func(*Trust)) {
	if s.watched != "" {
		watchTrust(ctx, s.watched, every, s.parseTrust, log, apply)
	}
}

func watchTrust(ctx context.Context, path string, every time.Duration, parse func([]byte) (*Trust, error), log *slog.Logger, apply func(*Trust)) {
	w := &trustWatch{path: path, parse: parse, log: log, apply: apply}
	w.look()
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

type trustWatch struct {
	path    string
	parse   func([]byte) (*Trust, error)
	log     *slog.Logger
	apply   func(*Trust)
	looked  bool
	content []byte // what was last read, good or not
	fault   string // why it could not be read
}

func (w *trustWatch) look() {
	data, err := os.ReadFile(w.path)
	if err != nil {
		if err.Error() != w.fault {
			w.log.Error("the trust file cannot be read, the trust in force stays", "path", w.path, "error", err)
		}
		w.fault = err.Error()
		return
	}
	w.fault = ""
	if w.looked && bytes.Equal(data, w.content) {
		return
	}
	first := !w.looked
	w.looked, w.content = true, data
	trust, err := w.parse(data)
	if err != nil {
		w.log.Error("the trust file is faulty, the trust in force stays", "path", w.path, "error", err)
		return
	}
	w.apply(trust)
	if !first {
		w.log.Info("trust file read again", "path", w.path, "apps", trust.Names(RoleApp), "services", trust.Names(RoleService))
	}
}
