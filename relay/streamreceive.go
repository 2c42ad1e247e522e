package relay

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxWindow  = 1 << 20
	maxInforms = 64 // that wait for the reader; more are left out
	maxJoined  = 4 << 10
	// eagerWindow is what a body gets at once if it is known to be that large.
	eagerWindow = 256 << 10
	// widenWithin: a reader that takes half a window in less could keep up with a wider one over most networks.
	widenWithin = 250 * time.Millisecond
)

// phase is where in its message a direction is.
type phase int

const (
	beforeHead phase = iota
	inBody
	complete
)

// receiver is the incoming direction. Deliver opens frames and queues them in order; one goroutine takes them out.
type receiver struct {
	s   *Stream
	key *frameKey // nil at a publisher until the first reply frame that opens

	mu       sync.Mutex
	next     uint64 // ordered seq expected
	phase    phase
	control  uint64 // highest control seq seen, 0 = none
	queue    []Frame
	received int64 // body bytes in data frames
	consumed int64 // of these, taken by the reader
	limit    int64 // what the peer was allowed
	window   int64
	granted  time.Duration // when credit was last given
	moved    bool          // an ordered frame came since progressed was last called
	asked    time.Duration // when a resend was last asked for
	gap      bool          // an ordered frame ahead of its turn came since next last rose
	gapSince time.Duration
	ready    chan struct{} // capacity 1: the queue grew
	freed    bool
	unread   bool // nobody reads what comes

	rest    []byte      // the reader's own: of a data frame that was larger than its buffer
	over    atomic.Bool // the body has been read to its end
	trailer *End
}

func (r *receiver) init(s *Stream) {
	r.s = s
	r.limit, r.window = firstWindow, firstWindow
	r.asked = -resendPause
	r.ready = make(chan struct{}, 1)
	if s.cfg.Role == RoleService {
		if r.key = s.cfg.Request.key; r.key == nil {
			r.key = s.cfg.Grant.keys.request(s.cfg.ID)
		}
		r.next, r.phase = 1, inBody // admission has opened frame 0
		if s.cfg.Request.Type == FrameWhole {
			r.phase = complete
			r.over.Store(true)
		}
	}
}

var errDropped = errors.New("dropped")

// Deliver takes in one payload from NATS. What does not open changes nothing and is reported as an error, for counting.
// It does not keep a reference to b unless it returns nil.
func (s *Stream) Deliver(b []byte) error {
	f, err := s.in.open(b)
	if err != nil {
		return err
	}
	if f.Type.control() {
		return s.in.takeControl(f)
	}
	return s.in.takeOrdered(f)
}

// hear notes a frame that is taken in, before anybody can know what it says. A repeated one is no sign of life: the broker can play
// it for ever.
func (s *Stream) hear() {
	s.heard.Store(int64(s.elapsed()))
	s.frames.Add(1)
}

// Heard is how many frames of the peer were taken in.
func (s *Stream) Heard() uint64 { return s.frames.Load() }

// open finds the frame in the payload and opens it.
func (r *receiver) open(b []byte) (Frame, error) {
	if r.s.cfg.Role == RoleService {
		return openFrame(r.key, b)
	}
	if len(b) > 1+saltSize && b[0] == replySalted {
		salt, frame := b[1:1+saltSize], b[1+saltSize:]
		if r.key != nil {
			return openFrame(r.key, frame)
		}
		key := r.s.cfg.Grant.keys.reply(r.s.cfg.ID, salt)
		f, err := openFrame(key, frame)
		if err == nil {
			r.key = key // only Deliver uses it, and NATS calls it from one goroutine
		}
		return f, err
	}
	if r.key == nil || len(b) == 0 || b[0] != replyFrame {
		return Frame{}, errDropped
	}
	return openFrame(r.key, b)
}

func (r *receiver) takeControl(f Frame) error {
	r.mu.Lock()
	fresh := f.Seq > r.control
	if fresh {
		r.control = f.Seq
	}
	r.mu.Unlock()
	if !fresh {
		return errDropped
	}
	if f.Type == FrameCredit {
		ack, limit, resend, err := parseCredit(f.Body)
		if err != nil {
			return err
		}
		r.s.hear()
		r.s.out.credit(ack, limit, resend)
		return nil
	}
	r.s.hear()
	if f.Type == FrameCancel && r.s.cfg.Role == RoleService {
		r.s.Fail(NewError(CodeCanceled, "the caller left"))
	}
	return nil
}

func (r *receiver) takeOrdered(f Frame) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case f.Seq < r.next:
		return errDropped
	case f.Seq > r.next:
		now := r.s.elapsed()
		if !r.gap {
			r.gap, r.gapSince = true, now
		}
		if r.ask(now) {
			go r.s.sendCredit(true)
		}
		return errDropped
	}
	if !r.follows(f.Type) {
		r.s.Fail(NewError(CodeStreamBroken, "the "+r.s.peer()+" sent a frame that may not stand there"))
		return errDropped
	}
	if f.Type == FrameData {
		r.received += int64(len(f.Body))
		if r.received > r.limit || len(f.Body) == 0 {
			r.s.Fail(NewError(CodeStreamBroken, "the "+r.s.peer()+" sent data of no bytes, or more than it had credit for"))
			return errDropped
		}
	}
	r.next++
	r.s.hear()
	r.moved, r.gap = true, false
	if r.s.cfg.Role == RoleService {
		r.s.moved.Store(int64(r.s.elapsed()))
	}
	if f.Type == FrameInform && len(r.queue) >= maxInforms { // a courtesy, for which no request fails
		return nil
	}
	r.enqueue(f)
	select {
	case r.ready <- struct{}{}:
	default:
	}
	return nil
}

// enqueue adds a frame to those that wait for the reader, small data to the data before it: credit counts bytes, and a frame
// of one byte takes many of them. The caller holds mu.
func (r *receiver) enqueue(f Frame) {
	if r.unread {
		return
	}
	if n := len(r.queue); n > 0 && f.Type == FrameData {
		if last := &r.queue[n-1]; last.Type == FrameData && len(last.Body)+len(f.Body) <= maxJoined {
			last.Body = append(last.Body, f.Body...)
			return
		}
	}
	r.queue = append(r.queue, f)
}

// follows reports whether a frame of that type may come next. Only data is bounded by credit, so everything else is
// bounded here: one head, one end. The caller holds mu.
func (r *receiver) follows(t FrameType) bool {
	switch {
	case r.phase == beforeHead && t == FrameInform:
	case r.phase == beforeHead && t == FrameHead:
		r.phase = inBody
	case r.phase == inBody && t == FrameData:
	case r.phase == beforeHead && t == FrameWhole, r.phase == inBody && t == FrameEnd:
		r.phase = complete
	default:
		return false
	}
	return true
}

// ask reports whether it is time to ask for a resend; the caller holds mu.
func (r *receiver) ask(now time.Duration) bool {
	if !r.gap || now-r.asked < resendPause {
		return false
	}
	r.asked = now
	return true
}

// askAgain is ask for a gap that no later frame reminds of: the sender may be waiting for credit.
func (r *receiver) askAgain() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ask(r.s.elapsed())
}

// missing reports whether the next ordered frame is missing, by the evidence of a later one, and since when.
func (r *receiver) missing() (gap bool, since time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gap, r.gapSince
}

// Answered reports whether the peer's last ordered frame is there, be it read or not.
func (s *Stream) Answered() bool {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	return s.in.phase == complete
}

func (r *receiver) position() (next uint64, limit int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next, r.limit
}

// progressed reports whether an ordered frame came since it was last asked.
func (r *receiver) progressed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	moved := r.moved
	r.moved = false
	return moved
}

// take waits for the next ordered frame.
func (r *receiver) take(ctx context.Context) (Frame, error) {
	for {
		r.mu.Lock()
		if len(r.queue) > 0 {
			f := r.queue[0]
			r.queue[0] = Frame{}
			r.queue = r.queue[1:]
			r.mu.Unlock()
			return f, nil
		}
		r.mu.Unlock()
		select {
		case <-r.ready:
		case <-r.s.ctx.Done():
			return Frame{}, r.s.Err()
		case <-ctx.Done():
			return Frame{}, context.Cause(ctx)
		}
	}
}

// consume gives room back to the peer once half of the window has been read. The window widens if that took so little time
// that the peer may have had to wait for credit.
func (r *receiver) consume(n int) {
	r.mu.Lock()
	r.consumed += int64(n)
	if r.freed || r.limit-r.consumed > r.window/2 {
		r.mu.Unlock()
		return
	}
	now := r.s.elapsed()
	if (r.received == r.limit || now-r.granted < widenWithin) && r.window < maxWindow && r.s.cfg.Budget.take(r.window) {
		r.window *= 2
	}
	r.limit, r.granted = r.consumed+r.window, now
	r.mu.Unlock()
	r.s.sendCredit(false)
}

// Expect says how long the body will be, -1 if that is not known, so that a large one need not begin with the smallest
// window. It is called at most once, by the reader.
func (s *Stream) Expect(length int64) {
	r := &s.in
	r.mu.Lock()
	for !r.freed && r.window < eagerWindow && r.window < length && s.cfg.Budget.take(r.window) {
		r.window *= 2
	}
	wider := r.consumed+r.window > r.limit
	r.limit = max(r.limit, r.consumed+r.window)
	r.mu.Unlock()
	if wider {
		s.sendCredit(false)
	}
}

// Discard drops what has come and what will, since nobody reads it any more, and gives the wider window back. It returns how many
// bytes may stay all the same: the last reader may have a part of a frame left.
func (s *Stream) Discard() int {
	r := &s.in
	r.release()
	r.mu.Lock()
	r.queue, r.unread = nil, true
	r.mu.Unlock()
	if r.over.Load() {
		return 0
	}
	return MaxFrame
}

// release gives the wider window back to the budget.
func (r *receiver) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.freed {
		r.freed = true
		r.s.cfg.Budget.give(r.window - firstWindow)
	}
}
