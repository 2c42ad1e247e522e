package sandbox

import (
	"strings"
	"testing"
	"time"
)

func TestFrontConfigReportsAllFaults(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	_, err := NewFront(FrontConfig{Workspace: ws, App: "none", Upstream: "127.0.0.1:8000", CutAfter: -1, SessionLifetime: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`no app "none" in the workspace`, "upstream: ", "CutAfter: -1ns is negative", "SessionLifetime: -1ns"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error lacks %q:\n%v", want, err)
		}
	}
	if _, err := NewFront(FrontConfig{}); err == nil || !strings.Contains(err.Error(), "no workspace") {
		t.Errorf("%v", err)
	}
}

func TestFrontConfigDefaults(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	cfg := FrontConfig{Workspace: ws}.withDefaults()
	if cfg.CutAfter != 120*time.Second || cfg.TokenLifetime != time.Hour || cfg.RefreshBefore != 5*time.Minute ||
		cfg.SessionLifetime != 12*time.Hour || cfg.Transport == nil || cfg.Log == nil {
		t.Errorf("%+v", cfg)
	}
	if cfg := (FrontConfig{Workspace: ws, TokenLifetime: time.Minute}).withDefaults(); cfg.RefreshBefore != 30*time.Second {
		t.Errorf("a token of a minute is replaced %v before its end", cfg.RefreshBefore)
	}
}
