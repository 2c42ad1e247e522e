package relay

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Times of a stream's life (PROTOCOL.md §7).
const (
	KeepAlive   = 2 * time.Second        // between credit frames of a side
	Silence     = 6 * time.Second        // without an authentic frame: the peer is gone
	resendPause = 250 * time.Millisecond // between requests to resend
)

// Stream is one side of one request: sealed frames out, sealed frames in, each direction in order, with credit, resend and
// keep-alive (PROTOCOL.md §7). Publisher and worker use the same type, so that there is one codec.
//
// Deliver may be called from a NATS callback: it never blocks and never publishes. One goroutine reads (Head, Read), one
// writes (SendHead, Write, SendEnd); Tick, Resend, Fail and Close may come from any.
type Stream struct {
	cfg StreamConfig
	out sender
	in  receiver

	ctx    context.Context // done when the stream has failed or is closed
	cancel context.CancelCauseFunc
	heard  atomic.Int64 // last authentic frame, in cfg.Now's nanoseconds since start
	start  time.Time
	once   sync.Once // Close
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

// Fail ends the stream: readers and writers get the error. Only the first failure counts.
func (s *Stream) Fail(err error) { s.cancel(err) }

// Close ends the stream and gives its window back. It does not tell the peer; see Cancel.
func (s *Stream) Close() {
	s.once.Do(func() {
		s.cancel(errClosed)
		s.in.release()
		s.out.release()
	})
}

var errClosed = NewError(CodeCanceled, "the stream is closed")

func (s *Stream) elapsed() time.Duration { return s.cfg.Now().Sub(s.start) }

// Idle is the time since the peer's last authentic frame.
func (s *Stream) Idle() time.Duration { return s.elapsed() - time.Duration(s.heard.Load()) }

// Tick keeps the stream alive and notices that the peer is gone. Call it a few times a second.
func (s *Stream) Tick() {
	if s.Err() != nil {
		return
	}
	if s.Idle() > Silence {
		s.Fail(Errorf(CodeOutcomeUnknown, "nothing was heard from the other side for %v", Silence))
		return
	}
	if s.in.missing() > Silence {
		s.Fail(Errorf(CodeStreamBroken, "a frame of the other side was lost and could not be had again within %v", Silence))
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

// Resend publishes the unacknowledged frames again and asks the peer for the same: for the time after a reconnect.
func (s *Stream) Resend() {
	if s.Err() != nil {
		return
	}
	s.out.resend()
	s.sendCredit(true)
}

// sendCredit tells the peer what has arrived and how much more may come. It is best effort.
func (s *Stream) sendCredit(resend bool) {
	next, limit := s.in.position()
	s.out.control(creditFrame(next, limit, resend))
}

// Cancel fails a publisher's stream and tells the worker that the caller left. That is best effort; silence does the rest.
// It fails first: a head that follows its own cancel would find nobody to cancel it.
func (s *Stream) Cancel(code Code, err error) {
	s.Fail(err)
	s.out.control(FrameCancel, []byte(code))
}

var _ io.Reader = (*Stream)(nil)
