package sandbox

import (
	"testing"
	"time"
)

func newTestSessions(t *testing.T) (*sessions, *Workspace, *testClock) {
	ws, clock := newTestWorkspace(t)
	cfg := FrontConfig{Workspace: ws, App: "ui"}.withDefaults()
	return newSessions(cfg), ws, clock
}

func TestASessionsTokenIsReplacedNearItsEnd(t *testing.T) {
	s, ws, clock := newTestSessions(t)
	id, err := s.begin("alice@example.com")
	if err != nil {
		t.Fatal(err)
	}
	enter := func() string {
		t.Helper()
		user, token, err := s.enter(id)
		if err != nil || user != "alice@example.com" {
			t.Fatal(user, err)
		}
		return token
	}
	first := enter()
	clock.Advance(54 * time.Minute)
	if enter() != first {
		t.Error("replaced too early")
	}
	clock.Advance(time.Minute)
	second := enter()
	if second == first {
		t.Error("not replaced near its end")
	}
	clock.Advance(5 * time.Minute)
	if _, err := ws.mint.check(first, ws.ID()); err != errTokenExpired {
		t.Errorf("what an open page has: %v", err)
	}
	if _, err := ws.mint.check(enter(), ws.ID()); err != nil {
		t.Errorf("what a new page gets: %v", err)
	}
}

func TestASessionEnds(t *testing.T) {
	s, _, clock := newTestSessions(t)
	id, _ := s.begin("alice@example.com")
	old, _ := s.begin("bob@example.com")
	s.end(id)
	for _, id := range []string{id, "", "unknown"} {
		if _, _, err := s.enter(id); err != errNoSession {
			t.Errorf("%q: %v", id, err)
		}
	}
	clock.Advance(12 * time.Hour)
	if _, _, err := s.enter(old); err != errNoSession {
		t.Errorf("after 12 hours: %v", err)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	s, _, clock := newTestSessions(t)
	for range maxSessions {
		if _, err := s.begin("bob@example.com"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.begin("bob@example.com"); err == nil {
		t.Error("not bounded")
	}
	clock.Advance(12 * time.Hour)
	if _, err := s.begin("bob@example.com"); err != nil {
		t.Errorf("ended sessions were not forgotten: %v", err)
	}
}
