package worker

import (
	"bytes"
	"context"
	"log/slog"
	"time"
)

// WatchPolicy looks at a policy file now and then every so often until ctx ends, and calls apply with what it says when
// its content is no longer that of inForce. A file that is missing or faulty, or that apply refuses, changes nothing: the
// policy in force stays, and the log says why.
//
// A change counts when two looks in a row have seen it, so that half a file, which may well allow more than the whole, is
// not put in force while it is being written. Replacing the file by a rename is safe in any case.
func WatchPolicy(ctx context.Context, path string, inForce *Policy, every time.Duration, log *slog.Logger, apply func(*Policy) error) {
	w := &policyWatch{path: path, log: log, apply: apply, content: inForce.source}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		w.look()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

type policyWatch struct {
	path    string
	log     *slog.Logger
	apply   func(*Policy) error
	content []byte // what was last dealt with, good or not
	changed []byte // what was seen once; nil: nothing new
	fault   string // why it could not be read
}

func (w *policyWatch) look() {
	data, err := readPolicyFile(w.path)
	if err != nil {
		w.changed = nil
		if err.Error() != w.fault {
			w.log.Error("the policy file cannot be read, the policy in force stays", "path", w.path, "error", err)
		}
		w.fault = err.Error()
		return
	}
	w.fault = ""
	switch {
	case bytes.Equal(data, w.content):
		w.changed = nil
		return
	case w.changed == nil || !bytes.Equal(data, w.changed):
		w.changed = append([]byte{}, data...)
		return
	}
	w.content, w.changed = data, nil
	policy, err := ParsePolicy(w.path, data)
	if err == nil {
		err = w.apply(policy)
	}
	if err != nil {
		w.log.Error("the policy file is faulty, the policy in force stays", "path", w.path, "error", err)
		return
	}
	w.log.Info("policy read again", "path", w.path, "rules", policy.Rules())
	for _, warning := range policy.Warnings() {
		w.log.Warn("policy: " + warning)
	}
}
