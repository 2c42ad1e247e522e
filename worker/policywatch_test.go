package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// watched runs WatchPolicy on a file, with a clock that stands still but for pass.
type watched struct {
	t       *testing.T
	path    string
	log     lockedBuffer
	mu      sync.Mutex
	applied []*Policy
	refuse  error
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.Reset()
	return b.String()
}

func watch(t *testing.T, text string, f func(*watched)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	writePolicy(t, path, text)
	inForce, err := ReadPolicy(path)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := &watched{t: t, path: path}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			WatchPolicy(ctx, path, inForce, time.Second, slog.New(slog.NewTextHandler(&w.log, nil)), func(p *Policy) error {
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.refuse == nil {
					w.applied = append(w.applied, p)
				}
				return w.refuse
			})
		}()
		synctest.Wait() // for the first look
		f(w)
		stop()
		<-done
	})
}

// looks lets the file be looked at so many times, and returns what was put in force and logged since.
func (w *watched) looks(n int) ([]*Policy, string) {
	time.Sleep(time.Duration(n)*time.Second - time.Millisecond) // of synctest's clock: nobody waits
	synctest.Wait()
	time.Sleep(time.Millisecond)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	applied := w.applied
	w.applied = nil
	return applied, w.log.take()
}

func (w *watched) expect(applied int, logged ...string) {
	w.t.Helper()
	got, log := w.looks(3)
	if len(got) != applied {
		w.t.Errorf("put in force %d times, want %d; log: %s", len(got), applied, log)
	}
	for _, want := range logged {
		if !strings.Contains(log, want) {
			w.t.Errorf("the log lacks %q: %s", want, log)
		}
	}
	if len(logged) == 0 && log != "" {
		w.t.Errorf("logged %s", log)
	}
}

func TestWatchPolicy(t *testing.T) {
	watch(t, wholePolicy, func(w *watched) {
		w.expect(0) // what is in force is not put in force again
		writePolicy(t, w.path, policyHead+"  - {match: /a, anyone: true}\n")
		w.expect(1, "policy read again", "rules=1")
		writePolicy(t, w.path, policyHead+"  - {match: a, anyone: true}\n  - {match: /b}\n")
		w.expect(0, "the policy in force stays", "policy.yaml:3: match", "policy.yaml:4: the rule does not say")
		w.expect(0) // said once
		writePolicy(t, w.path, "")
		w.expect(0, "the policy in force stays", "the file is empty")
		if err := os.Remove(w.path); err != nil {
			t.Fatal(err)
		}
		w.expect(0, "cannot be read, the policy in force stays")
		w.expect(0)
		writePolicy(t, w.path, policyHead+"  - {match: /a, anyone: true}\n")
		w.expect(1, "policy read again") // good again, as before the fault
		writePolicy(t, w.path, policyHead+"  - {match: POST /a, deny: true}\n  - {match: /a, anyone: true}\n")
		w.expect(1, "policy read again", "level=WARN", "is about its method only")
		w.mu.Lock()
		w.refuse = errors.New("the look-up is off")
		w.mu.Unlock()
		writePolicy(t, w.path, wholePolicy)
		w.expect(0, "the policy in force stays", "the look-up is off")
	})
}

// A file that is being written piece by piece is not believed before it rests: its first half allows what the whole denies.
func TestWatchPolicyWaitsForTheWholeFile(t *testing.T) {
	whole := policyHead + "  - {match: /, anyone: true}\n  - {match: /admin, deny: true}\n"
	watch(t, wholePolicy, func(w *watched) {
		for n := 1; n <= len(whole); n += 7 {
			writePolicy(t, w.path, whole[:n])
			if applied, log := w.looks(1); len(applied) != 0 || log != "" {
				t.Fatalf("%q was taken: %s", whole[:n], log)
			}
		}
		writePolicy(t, w.path, whole)
		got, _ := w.looks(3)
		if len(got) != 1 || got[0].Decide("GET", "/admin", someUser()).Allowed {
			t.Errorf("got %v", got)
		}
		writePolicy(t, w.path, wholePolicy) // there and back between two looks
		w.looks(1)
		writePolicy(t, w.path, whole)
		w.expect(0)
	})
}
