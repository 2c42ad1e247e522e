package relay

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Times of a stream's life (PROTOCOL.md §7).
const (
	KeepAlive   = 2 * time.Second        // between credit frames of a side
	Silence     = 6 * time.Second        // without an authentic frame: the peer is gone
	looked      = time.Second            // between two ticks counts at most: a process that was stopped has heard nothing itself
	resendPause = 250 * time.Millisecond // between requests to resend
)

// Stream is one side of one request: sealed frames out, sealed frames in, each direction in order, with credit, resend and
// keep-alive (PROTOCOL.md §7). Publisher and worker use the same type, so that there is one codec.
//
// Deliver may be called from a NATS callback: it never blocks and never publishes. One goroutine reads (Head, Read), one
// writes (SendHead, Write, SendEnd), one calls Tick; Resend, Fail, Cancel and Close may come from any.
type Stream struct {
	cfg StreamConfig
	out sender
	in  receiver

	ctx    context.Context // done when the stream has failed or is closed
	cancel context.CancelCauseFunc
	heard  atomic.Int64  // last authentic frame, in cfg.Now's nanoseconds since start
	frames atomic.Uint64 // that were taken in
	moved  atomic.Int64  // the last frame of the request's body, likewise; 0 before there is one
	start  time.Time
	once   sync.Once   // Close
	left   atomic.Bool // the cancel is out

	ticked time.Duration // the last Tick, and from when on silence counts at the earliest; of whoever calls Tick
	awake  time.Duration
}

// Publish sends one payload, of which it keeps nothing when it returns. The frame type and, on a reply's head and end, the status are for hints.
type Publish func(payload []byte, t FrameType, status int) error

// StreamConfig configures a Stream. All members but Request are required.
type StreamConfig struct {
	Role    Role // RoleApp sends the request, RoleService the reply
	ID      ID
	Grant   *Grant
	Limit   int // plaintext bytes of a frame, see FrameLimit
	Publish Publish
	Budget  *Budget
	Now     func() time.Time // monotonic
	Request HeadFrame        // a worker's: what OpenRequest returned, which saves deriving its key again
}

// NewStream starts a stream. The context's end fails it with the context's cause.
func NewStream(ctx context.Context, cfg StreamConfig) *Stream {
	s := &Stream{cfg: cfg, start: cfg.Now()}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.out.init(s)
	s.in.init(s)
	s.cfg.Request = HeadFrame{} // it holds the whole message
	return s
}

// ID is the request's id.
func (s *Stream) ID() ID { return s.cfg.ID }

// Context ends when the stream fails or is closed; its cause is the failure.
func (s *Stream) Context() context.Context { return s.ctx }

// Err is the failure, nil while the stream lives.
func (s *Stream) Err() error {
	if s.ctx.Err() == nil {
		return nil
	}
	return context.Cause(s.ctx)
}

// Fail ends the stream: readers and writers get the error. Only the first failure counts. A worker's stream still takes its
// last frame, so that the publisher hears how the request ended, unless that has left (CodeCanceled).
func (s *Stream) Fail(err error) { s.cancel(err) }

// muted is why nothing more may be sent, nil if it may. Nothing follows a publisher's cancel.
func (s *Stream) muted() error {
	if err := s.Err(); s.cfg.Role == RoleApp || errors.Is(err, CodeCanceled) {
		return err
	}
	return nil
}

// Close ends the stream and gives its window back. It does not tell the peer; see Cancel.
func (s *Stream) Close() {
	s.once.Do(func() {
		s.cancel(errClosed)
		s.in.release()
		s.out.release()
	})
}

var errClosed = NewError(CodeCanceled, "the stream is closed")

// peer is who is at the other end, for errors.
func (s *Stream) peer() string {
	if s.cfg.Role == RoleApp {
		return "worker"
	}
	return "publisher"
}

func (s *Stream) elapsed() time.Duration { return s.cfg.Now().Sub(s.start) }

// Tick keeps the stream alive and notices that the peer is gone. Call it a few times a second.
func (s *Stream) Tick() {
	if s.Err() != nil {
		return
	}
	now, heard := s.elapsed(), time.Duration(s.heard.Load())
	if away := now - s.ticked - looked; away > 0 { // what came meanwhile is still to be delivered
		s.awake = max(s.awake, heard) + away
	}
	s.ticked = now
	switch gap, since := s.in.missing(); {
	case now-max(heard, s.awake) > Silence:
		code := CodeStreamBroken
		if s.cfg.Role == RoleApp {
			code = CodeOutcomeUnknown
		}
		s.lost(Errorf(code, "nothing was heard from the %s for %v", s.peer(), Silence))
		return
	case gap && now-max(since, s.awake) > Silence:
		s.lost(Errorf(CodeStreamBroken, "a frame of the %s's was lost and could not be had again within %v", s.peer(), Silence))
		return
	}
	switch {
	case s.in.askAgain():
		s.sendCredit(true)
	case s.out.sinceControl() >= KeepAlive:
		if s.cfg.Role == RoleApp && s.heard.Load() == 0 {
			s.out.resend() // the head itself may be lost: the same bytes to the same instance are always allowed
		}
		s.sendCredit(!s.in.progressed())
	}
}

// lost ends the stream by its own judgment, of which the worker hears at once. The publisher hears it from the handler's end.
func (s *Stream) lost(err *Error) {
	if s.cfg.Role == RoleApp {
		s.Cancel(err.Code, err)
		return
	}
	s.Fail(err)
}

// Resend publishes the unacknowledged frames again and asks the peer for the same: for the time after a reconnect.
func (s *Stream) Resend() {
	s.out.resend()
	if s.Err() == nil {
		s.sendCredit(true)
	}
}

// sendCredit tells the peer what has arrived and how much more may come. It is best effort.
func (s *Stream) sendCredit(resend bool) {
	next, limit := s.in.position()
	s.out.control(creditFrame(next, limit, resend))
}

// Cancel fails a publisher's stream, if nothing has, and tells the worker, once, that nobody waits for its reply. That is best
// effort; silence does the rest. It fails first: a head that follows its own cancel would find nobody to cancel it.
func (s *Stream) Cancel(code Code, err error) {
	if s.left.Swap(true) {
		s.Fail(err)
		return
	}
	s.Fail(err)
	s.out.control(FrameCancel, []byte(code))
}

var _ io.Reader = (*Stream)(nil)
