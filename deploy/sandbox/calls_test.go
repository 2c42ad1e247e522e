package sandbox

import (
	"fmt"
	"testing"
)

func TestCallsCountPerPrincipalAndPath(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	alice := mustToken(t, ws, "alice@example.com", TokenOptions{})
	call(ws, "GET", mePath, alice)
	call(ws, "GET", mePath, alice)
	call(ws, "GET", mePath, "")
	call(ws, "GET", "/api/2.0/other", mustToken(t, ws, "robot", TokenOptions{}))

	calls := ws.Calls()
	for name, c := range map[string]struct{ got, want int }{
		"all":                {calls.Count(), 4},
		"alice":              {calls.By("alice@example.com").To(mePath).Answered(200).Count(), 2},
		"nobody":             {calls.By("").Answered(401).Count(), 1},
		"service principals": {calls.ByServicePrincipals().Count(), 1},
		"robot":              {calls.By("robot").To("/api/2.0/other").Answered(404).Count(), 1},
		"bob":                {calls.By("bob@example.com").Count(), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d calls, want %d", name, c.got, c.want)
		}
	}
	ws.ResetCalls()
	if n := ws.Calls().Count(); n != 0 {
		t.Errorf("%d calls after reset", n)
	}
}

func TestARefusedTokenCountsForItsOwner(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	call(ws, "GET", mePath, mustToken(t, ws, "robot", TokenOptions{Lifetime: -1}))
	if n := ws.Calls().ByServicePrincipals().Answered(401).Count(); n != 1 {
		t.Errorf("%d", n)
	}
}

func TestCallKindsAreBounded(t *testing.T) {
	l := newCallLog()
	for i := range maxCallKinds + 5 {
		l.add(Call{Path: fmt.Sprint("/", i)})
	}
	calls := l.snapshot()
	if len(calls) != maxCallKinds+1 || calls.To("(other)").Count() != 5 || calls.Count() != maxCallKinds+5 {
		t.Errorf("%d kinds, %d other, %d in all", len(calls), calls.To("(other)").Count(), calls.Count())
	}
}
