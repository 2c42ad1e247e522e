package child

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

func heapGoal() uint64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// Garbage is collected late, unless the user has a limit of their own.
func TestSlack(t *testing.T) {
	t.Setenv("GOGC", "")
	before := heapGoal()
	limit := debug.SetMemoryLimit(1 << 40)
	Slack()
	if ballast != nil {
		t.Error("a memory limit was not respected")
	}
	debug.SetMemoryLimit(limit)
	t.Setenv("GOGC", "50")
	if Slack(); ballast != nil {
		t.Error("GOGC was not respected")
	}
	t.Setenv("GOGC", "")
	Slack()
	defer func() { ballast = nil }()
	if after := heapGoal(); after < before+2*heapSlack-(4<<20) {
		t.Errorf("the goal went from %d to %d MB", before>>20, after>>20)
	}
}
