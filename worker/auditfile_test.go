package worker

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

func testRecord() *AuditRecord {
	r := newTrail(nil, false, io.Discard).record(relay.NewID(), AuditRelay, "GET", "/a", time.Now())
	r.judged(verdict{user: someUser()})
	return r
}

func newTestAuditFile(t *testing.T, path string) *AuditFile {
	t.Helper()
	a, err := NewAuditFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

func keep(t *testing.T, a Auditor) string {
	t.Helper()
	r := testRecord()
	if err := a.Audit(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r.RequestID
}

// ids are the request ids in a file, each line of which must be a whole record or, where torn, a part of one.
func ids(t *testing.T, path string, torn int) (out []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var r AuditRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			torn--
			continue
		}
		out = append(out, r.RequestID)
	}
	if torn != 0 {
		t.Errorf("%s: another number of torn lines: %q", path, data)
	}
	return out
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAuditFileFollowsItsPath(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	a := newTestAuditFile(t, path)
	one := keep(t, a)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	moved := filepath.Join(dir, "audit.1")
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	two := keep(t, a)
	if err := a.Reopen(); err != nil {
		t.Fatal(err)
	}
	three := keep(t, a)
	same(t, ids(t, moved, 0), one)
	same(t, ids(t, path, 0), two, three)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	four := keep(t, a)
	same(t, ids(t, path, 0), four)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := a.Audit(t.Context(), testRecord()); err == nil || !strings.Contains(err.Error(), "make its directory") {
		t.Errorf("got %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	five := keep(t, a) // by itself
	same(t, ids(t, path, 0), five)
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Error(err)
	}
	if err := a.Audit(t.Context(), testRecord()); err == nil || a.Reopen() == nil {
		t.Error("a closed file takes records")
	}
}

func TestAuditFileGoesOnAfterATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, []byte(`{"type":"obo.v1.audit","ev`), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newTestAuditFile(t, path)
	one, two := keep(t, a), keep(t, a)
	same(t, ids(t, path, 1), one, two)
}

func TestAuditFileFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	a := newTestAuditFile(t, path)
	one := keep(t, a)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	good := a.file
	a.file = full
	err = a.Audit(t.Context(), testRecord())
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free space") {
		t.Errorf("got %v", err)
	}
	_ = full.Close() // as bad as any other fault
	if err := a.Audit(t.Context(), testRecord()); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "--audit") {
		t.Errorf("got %v", err)
	}
	a.file = good // there is room again
	two := keep(t, a)
	same(t, ids(t, path, 0), one, two)
}

// Two workers share a file, which is rotated all the time: no record is lost, torn or doubled.
func TestAuditFileUnderRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	files := []*AuditFile{newTestAuditFile(t, path), newTestAuditFile(t, path)}
	const each = 200
	var wait sync.WaitGroup
	var mu sync.Mutex
	want := map[string]bool{}
	for i := range 8 {
		wait.Go(func() {
			for range each {
				r := testRecord()
				if err := files[i%2].Audit(t.Context(), r); err != nil {
					t.Error(err)
				}
				mu.Lock()
				want[r.RequestID] = true
				mu.Unlock()
			}
		})
	}
	stop := make(chan struct{})
	var rotating sync.WaitGroup
	rotating.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_ = os.Rename(path, filepath.Join(dir, "old."+strings.Repeat("i", i%50)+time.Now().Format("150405.000000000"))) // not there yet: next time
			if err := files[i%2].Reopen(); err != nil {
				t.Error(err)
			}
		}
	})
	wait.Wait()
	close(stop)
	rotating.Wait()
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for _, file := range all {
		for _, id := range ids(t, file, 0) {
			got++
			if !want[id] {
				t.Errorf("%s is there twice, or was never kept", id)
			}
			delete(want, id)
		}
	}
	if got != 8*each {
		t.Errorf("%d records of %d", got, 8*each)
	}
}
