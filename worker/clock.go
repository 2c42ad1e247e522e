package worker

import (
	"sync"
	"time"
)

// maxDivergence is how far wall clock and monotonic clock may drift apart before keys are dropped (PROTOCOL.md §5).
const maxDivergence = 5 * time.Second

// clockGuard notices that the wall clock was stepped: times in grants, heads and the replay cache then mean something else
// than before.
type clockGuard struct {
	mu   sync.Mutex
	base time.Time
}

func newClockGuard(now time.Time) *clockGuard { return &clockGuard{base: now} }

// step returns by how much the wall clock was stepped since the base was set, 0 if it is within the limit.
func (g *clockGuard) step(now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	monotonic := now.Sub(g.base)
	wall := now.Round(0).Sub(g.base.Round(0))
	if d := wall - monotonic; d > maxDivergence || d < -maxDivergence {
		return d
	}
	return 0
}

// accept takes the clock as it is now.
func (g *clockGuard) accept(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.base = now
}
