package relay

import (
	"math"
	"sync/atomic"
	"time"
)

// Patience is how long one side waits for the reply to begin: so long after the request's body last moved, which a live upload
// does for as long as it takes. At a publisher it moves with each frame that goes out, at a worker with each that comes in.
type Patience struct {
	s     *Stream
	most  time.Duration
	timer *time.Timer
	over  atomic.Bool
}

// NewPatience calls out, on a goroutine of its own, when the patience is over. It begins with Start.
func NewPatience(s *Stream, most time.Duration, out func()) *Patience {
	p := &Patience{s: s, most: most}
	p.timer = time.AfterFunc(math.MaxInt64, func() {
		if p.over.Load() { // stopped while it looked whether the body had moved
			return
		}
		if moved := p.s.moved.Load(); moved > 0 {
			if left := p.most - (p.s.elapsed() - time.Duration(moved)); left > 0 {
				p.timer.Reset(left)
				return
			}
		}
		out()
	})
	return p
}

// Start begins to wait.
func (p *Patience) Start() { p.timer.Reset(p.most) }

// Stop ends the waiting, whether or not it has begun: the reply is there, or not waited for.
func (p *Patience) Stop() {
	p.over.Store(true)
	p.timer.Stop()
}
