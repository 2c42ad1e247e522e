package relay

import (
	"math"
	"sync/atomic"
	"time"
)

// ReplyTimer is how long one side waits for the reply to begin: so long after the request's body last moved, which a live upload
// does for as long as it takes. At a publisher it moves with each frame that goes out, at a worker with each that comes in.
type ReplyTimer struct {
	s     *Stream
	most  time.Duration
	timer *time.Timer
	over  atomic.Bool
}

// NewReplyTimer calls out, on a goroutine of its own, when the time is over, which begins with Start.
func NewReplyTimer(s *Stream, most time.Duration, out func()) *ReplyTimer {
	t := &ReplyTimer{s: s, most: most}
	t.timer = time.AfterFunc(math.MaxInt64, func() {
		if t.over.Load() { // stopped while it looked whether the body had moved
			return
		}
		if moved := t.s.moved.Load(); moved > 0 {
			if left := t.most - (t.s.elapsed() - time.Duration(moved)); left > 0 {
				t.timer.Reset(left)
				return
			}
		}
		out()
	})
	return t
}

// Start begins to wait.
func (t *ReplyTimer) Start() { t.timer.Reset(t.most) }

// Stop ends the waiting, whether or not it has begun: the reply is there, or not waited for.
func (t *ReplyTimer) Stop() {
	t.over.Store(true)
	t.timer.Stop()
}
