package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// keptRecords is an Auditor that remembers, or fails.
type keptRecords struct {
	mu      sync.Mutex
	records []AuditRecord
	fault   error
}

func (k *keptRecords) Audit(_ context.Context, r *AuditRecord) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fault == nil {
		k.records = append(k.records, *r)
	}
	return k.fault
}

func (k *keptRecords) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fault = err
}

func (k *keptRecords) take() []AuditRecord {
	k.mu.Lock()
	defer k.mu.Unlock()
	defer func() { k.records = nil }()
	return k.records
}

func newTrail(to Auditor, required bool, log io.Writer) *auditTrail {
	return &auditTrail{to: to, required: required, log: slog.New(slog.NewTextHandler(log, nil)), service: "middleware", instance: "abcdefghij234567"}
}

func TestAuditRecordTakesOnlyWhatIsWellFormed(t *testing.T) {
	trail := newTrail(nil, false, io.Discard)
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.FixedZone("x", 3600))
	r := trail.record(relay.NewID(), AuditRelay, "GET", "/a/b", at)
	if r.Method != "GET" || r.Path != "/a/b" || r.Decision != AuditRefused || r.Event != AuditEnded || r.Time.Format(time.RFC3339Nano) != "2026-01-02T02:04:05.678Z" {
		t.Errorf("got %+v", r)
	}
	for _, path := range []string{"/a?token=secret", "//a", "/a\x00", "/a#b", "secret", "/%2e%2e", ""} {
		if r := trail.record(relay.NewID(), AuditRelay, "G T", path, at); r.Path != "" || r.Method != "" {
			t.Errorf("%q: got %+v", path, r)
		}
	}
}

func TestAuditRecordOfVerdicts(t *testing.T) {
	no := relay.NewError(relay.CodeForbidden, "no")
	for name, test := range map[string]struct {
		v    verdict
		want string
	}{
		"allowed":        {verdict{user: someUser(), rule: "/a"}, AuditAllowed},
		"denied":         {verdict{user: someUser(), rule: "/a", denied: true, refusal: no}, AuditDenied},
		"looked up, not": {verdict{refusal: no}, AuditRefused},
		"nobody":         {verdict{}, AuditAllowed},
	} {
		r := newTrail(nil, false, io.Discard).record(relay.NewID(), AuditRelay, "GET", "/a", time.Now())
		r.judged(test.v)
		if r.Decision != test.want || r.Rule != test.v.rule || (r.User != nil) != (test.v.user != nil) {
			t.Errorf("%s: got %+v", name, r)
		}
	}
}

func TestAuditTrailFailsOpen(t *testing.T) {
	kept, log := &keptRecords{}, &lockedBuffer{}
	kept.fail(errors.New("the disk is full"))
	trail := newTrail(kept, false, log)
	r := trail.record(relay.NewID(), AuditRelay, "GET", "/a", time.Now())
	r.judged(verdict{user: someUser()})
	if err := trail.start(t.Context(), r); err != nil {
		t.Errorf("refused: %v", err)
	}
	trail.end(r)
	if got := log.take(); !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "AUDIT RECORD LOST") || !strings.Contains(got, r.RequestID) || !strings.Contains(got, "the disk is full") || !strings.Contains(got, "alice@example.com") {
		t.Errorf("logged %s", got)
	}
}

func TestAuditTrailFailsClosed(t *testing.T) {
	kept, log := &keptRecords{}, &lockedBuffer{}
	trail := newTrail(kept, true, log)
	r := trail.record(relay.NewID(), AuditRelay, "GET", "/a", time.Now())
	r.judged(verdict{user: someUser()})
	if err := trail.start(t.Context(), r); err != nil || r.Event != AuditEnded {
		t.Errorf("got %v, %+v", err, r)
	}
	if got := kept.take(); len(got) != 1 || got[0].Event != AuditStarted || got[0].Decision != AuditAllowed || got[0].Status != 0 {
		t.Errorf("kept %+v", got)
	}
	kept.fail(errors.New("the disk is full"))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	err := trail.start(gone, r)
	if !errors.Is(err, relay.CodeAuditDown) || !err.Code.Info().Elsewhere || strings.Contains(err.Problem().Detail, "disk") {
		t.Errorf("got %v", err)
	}
	if r.Decision != AuditRefused || !strings.Contains(log.take(), "REFUSED") || !trail.refuses() {
		t.Errorf("got %+v", r)
	}
	trail.end(r)
	if got := trail.failures.Load(); got != 2 {
		t.Errorf("%d failures are counted, want 2", got)
	}
	kept.fail(nil)
	if err := trail.start(t.Context(), r); err != nil || trail.refuses() {
		t.Errorf("when records can be kept again: %v", err)
	}
	none := newTrail(nil, false, log)
	if none.start(t.Context(), r) != nil {
		t.Error("refused without an auditor")
	}
	none.end(r)
	if _, err := New(Config{AuditRequired: true}); err == nil || !strings.Contains(err.Error(), "--audit") {
		t.Errorf("got %v", err)
	}
}

func TestAuditTo(t *testing.T) {
	var out bytes.Buffer
	trail := newTrail(Auditors(AuditTo(&out), AuditTo(&out)), false, io.Discard)
	r := trail.record(relay.NewID(), AuditFront, "GET", "/a<b>&c", time.Now())
	r.judged(verdict{user: &User{ID: "1", UserName: "a\nb\"\u2028"}})
	trail.end(r)
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("got %q", out.String())
	}
	var back AuditRecord
	if err := json.Unmarshal([]byte(lines[0]), &back); err != nil || back.User.Name != "a\nb\"\u2028" || back.Path != "/a<b>&c" {
		t.Errorf("got %+v, %v", back, err)
	}
	kept := &keptRecords{}
	failing := &keptRecords{fault: errors.New("no")}
	if err := Auditors(failing, kept).Audit(t.Context(), r); err == nil || len(kept.take()) != 1 {
		t.Errorf("one that fails keeps the others from it: %v", err)
	}
}
