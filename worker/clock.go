package worker

import "time"

// maxDivergence is how far wall clock and monotonic clock may drift apart before keys are dropped (PROTOCOL.md §5).
const maxDivergence = 5 * time.Second

// clockGuard notices that the wall clock was stepped: times in grants and heads then mean something else than before.
type clockGuard struct {
	now  func() time.Time
	last time.Time
}

func newClockGuard(now func() time.Time) *clockGuard { return &clockGuard{now: now, last: now()} }

// step returns by how much the wall clock was stepped since the last time it was over the limit, 0 if it was not.
func (g *clockGuard) step() time.Duration {
	now := g.now()
	monotonic := now.Sub(g.last)
	wall := now.Round(0).Sub(g.last.Round(0))
	if d := wall - monotonic; d > maxDivergence || d < -maxDivergence {
		g.last = now
		return d
	}
	return 0
}
