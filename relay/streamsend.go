package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// sender is the outgoing direction: one counter, seal and publish under one mutex, so that the order of seqs is the order
// on the wire. Data takes its credit before it takes the mutex, so control never waits behind data.
type sender struct {
	s    *Stream
	key  *frameKey
	salt []byte // a worker's, until its ordered seq 0 is out

	mu     sync.Mutex
	next   uint64 // ordered seq
	ctlSeq uint64 // control seq
	kept   []keptFrame
	first  [1]keptFrame // most streams keep one, and need no other memory for it
	acked  int64        // body bytes in data frames that were acknowledged and are no longer kept
	ended  bool
	grant  []byte     // a publisher's, in front of its frame 0
	known  *GrantHash // in its place when frame 0 is first sent

	last      atomic.Uint64 // one more than the seq of the last ordered frame; 0 before it is sealed
	peerAck   atomic.Uint64 // next ordered seq the peer expects
	peerLimit atomic.Int64  // body bytes the peer has room for, in sum
	sent      int64         // body bytes sent in data frames; the writer's own
	credited  chan struct{} // capacity 1: peerLimit or peerAck rose
	resending atomic.Bool
	resent    time.Duration // when the peer last got what it asked for again; of whoever holds resending
	lastCtl   atomic.Int64  // elapsed time of the last control frame
}

type keptFrame struct {
	seq     uint64
	t       FrameType
	status  int
	size    int // of the plaintext
	payload []byte
}

const firstWindow = 64 << 10

func (o *sender) init(s *Stream) {
	o.s = s
	o.ctlSeq = controlSeq
	o.kept = o.first[:0]
	o.credited = make(chan struct{}, 1)
	o.peerLimit.Store(firstWindow)
	o.resent = -resendPause
	if s.cfg.Role == RoleApp {
		o.key = s.cfg.Grant.keys.request(s.cfg.ID)
		return
	}
	salt := newSalt()
	o.salt = salt[:]
	o.key = s.cfg.Grant.keys.reply(s.cfg.ID, o.salt)
}

// start begins a frame with what stands in front of it: the publisher's grant, or the worker's salt.
func (o *sender) start(t FrameType, seq uint64, size int) (b []byte, room int) {
	head := seq == 0 && o.s.cfg.Role == RoleApp
	switch {
	case head:
		room = grantRoom(o.grant, o.known)
	case o.salt != nil:
		room = 1 + saltSize
	}
	b = beginFrame(o.s.cfg.Budget.buffer(frameSize(room, size)), room, t, seq)
	switch {
	case head:
		putGrant(b, o.grant, o.known)
	case o.salt != nil:
		b[0] = replySalted
		copy(b[1:], o.salt)
	}
	return b, room
}

// ordered seals the parts as one frame, keeps it until it is acknowledged, and publishes it. A frame that cannot be
// published because NATS is away stays kept and is no error: it is sent again after the reconnect.
func (o *sender) ordered(t FrameType, status int, parts ...[]byte) error {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.s.Err(); err != nil && (!t.final() || o.s.muted() != nil) { // looked at here, so that nothing follows a cancel
		return err
	}
	if o.ended {
		return NewError(CodeInternal, "a frame after the end of the stream")
	}
	b, room := o.start(t, o.next, size)
	for _, p := range parts {
		b = append(b, p...)
	}
	b = sealFrame(o.key, b, room)
	if o.s.cfg.Role == RoleService {
		o.salt = nil
	}
	o.trim()
	o.kept = append(o.kept, keptFrame{o.next, t, status, size, b})
	o.next++
	if t.final() {
		o.ended = true
		o.last.Store(o.next)
	}
	if o.s.cfg.Role == RoleApp && (t == FrameData || t == FrameEnd) {
		o.s.moved.Store(int64(o.s.elapsed()))
	}
	err := o.s.cfg.Publish(b, t, status)
	if o.next == 1 && o.s.cfg.Role == RoleApp && err != nil {
		// Nothing of this request has left, so the caller is told "not delivered" and may go elsewhere: a Resend that
		// waits for the mutex must not publish it after all.
		o.forget()
		o.s.Fail(err)
		return err
	}
	if err != nil && !transient(err) {
		o.s.Fail(Wrap(CodeStreamBroken, err, "publishing to NATS"))
		return o.s.Err()
	}
	return nil
}

// transient: the connection is away, or broke while it was written to, and will come back. What can never be published
// is a fault.
func transient(err error) bool {
	for _, fatal := range []error{nats.ErrMaxPayload, nats.ErrConnectionClosed, nats.ErrConnectionDraining, nats.ErrBadSubject, nats.ErrHeadersNotSupported} {
		if errors.Is(err, fatal) {
			return false
		}
	}
	return true
}

// trim drops acknowledged frames; the caller holds mu.
func (o *sender) trim() {
	ack := o.peerAck.Load()
	n := 0
	for n < len(o.kept) && o.kept[n].seq < ack {
		if o.kept[n].t == FrameData {
			o.acked += int64(o.kept[n].size)
		}
		o.s.cfg.Budget.recycle(o.kept[n].payload)
		n++
	}
	if n > 0 {
		clear(o.kept[:n])
		o.kept = o.kept[n:]
	}
}

// forget drops what is kept; the caller holds mu.
func (o *sender) forget() {
	for _, f := range o.kept {
		o.s.cfg.Budget.recycle(f.payload)
	}
	o.kept = nil
}

// release drops what is kept when the stream has ended.
func (o *sender) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forget()
	o.ended = true
}

// control seals and publishes a control frame, best effort.
func (o *sender) control(t FrameType, body []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, room := o.start(t, o.ctlSeq, len(body))
	b = sealFrame(o.key, append(b, body...), room)
	o.ctlSeq++
	o.lastCtl.Store(int64(o.s.elapsed()))
	_ = o.s.cfg.Publish(b, t, 0) // the next one carries the same news
}

func (o *sender) sinceControl() time.Duration {
	return o.s.elapsed() - time.Duration(o.lastCtl.Load())
}

// credit takes in a credit frame of the peer. It is called from Deliver and must not block.
func (o *sender) credit(ack uint64, limit int64, resend bool) {
	acked := raise(&o.peerAck, ack)
	if raise(&o.peerLimit, limit) || acked {
		select {
		case o.credited <- struct{}{}:
		default:
		}
	}
	if resend && o.resending.CompareAndSwap(false, true) { // not at once where it asks more often than it may
		time.AfterFunc(o.resent+resendPause-o.s.elapsed(), func() {
			defer o.resending.Store(false)
			o.resent = o.s.elapsed()
			o.resend()
			if o.s.Err() == nil && o.sinceControl() >= KeepAlive/2 {
				o.s.sendCredit(false) // a sign of life, where there was nothing to send
			}
		})
	}
}

// resend publishes the very bytes of every unacknowledged frame again.
func (o *sender) resend() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.s.muted() != nil { // as in ordered
		return
	}
	o.trim()
	for i := range o.kept {
		f := &o.kept[i]
		if f.seq == 0 && o.known != nil { // whoever did not take it may not know the grant
			f.payload = withGrant(f.payload, o.grant)
			o.known = nil
		}
		if err := o.s.cfg.Publish(f.payload, f.t, f.status); err != nil {
			return // away again: the next reconnect or request resumes
		}
	}
}

// raise sets v to at least n and reports whether it rose.
func raise[T int64 | uint64, A interface {
	Load() T
	CompareAndSwap(old, new T) bool
}](v A, n T) bool {
	for {
		old := v.Load()
		if n <= old {
			return false
		}
		if v.CompareAndSwap(old, n) {
			return true
		}
	}
}

// SetGrant gives a publisher's stream the sealed grant that goes in front of frame 0. It is only read.
func (s *Stream) SetGrant(compact []byte) { s.out.grant = compact }

// ReferToGrant has frame 0 first sent with the grant's hash in place of the grant, for a worker that has opened it before.
// When it is sent again the grant goes with it.
func (s *Stream) ReferToGrant(h GrantHash) { s.out.known = &h }

// SendHead sends the head (from EncodeHead) with the first bytes of the body; whole says that the body ends here. The
// body part may have at most HeadRoom bytes. For a publisher's stream an error means that nothing was published.
func (s *Stream) SendHead(head, body []byte, whole bool, status int) error {
	t := FrameHead
	if whole {
		t = FrameWhole
	}
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(head)))
	return s.out.ordered(t, status, length[:], head, body)
}

// HeadRoom is how many bytes of body fit into the frame of a head of that size.
func (s *Stream) HeadRoom(head int) int { return s.cfg.Limit - 4 - head }

// SendInform sends a 1xx reply head.
func (s *Stream) SendInform(head []byte) error { return s.out.ordered(FrameInform, 0, head) }

// SendEnd completes the body after data frames; end is from EncodeHead.
func (s *Stream) SendEnd(end []byte, status int) error {
	return s.out.ordered(FrameEnd, status, end)
}

// WriteData sends bytes of the body, waiting for credit. It returns how many were sent before the stream or ctx ended.
func (s *Stream) WriteData(ctx context.Context, p []byte) (n int, err error) {
	for len(p) > 0 {
		room, err := s.out.await(ctx)
		if err != nil {
			return n, err
		}
		part := p[:min(int64(len(p)), room, int64(s.cfg.Limit))]
		if err := s.out.ordered(FrameData, 0, part); err != nil {
			return n, err
		}
		s.out.sent += int64(len(part))
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}

// room is how many bytes of data may be sent now. A peer that grants more than a window beyond what it acknowledges lies,
// and would have us keep all of it.
func (o *sender) room() int64 {
	o.mu.Lock()
	o.trim()
	most := o.acked + maxWindow
	o.mu.Unlock()
	return min(o.peerLimit.Load(), most) - o.sent
}

// await waits until the peer has room for data.
func (o *sender) await(ctx context.Context) (int64, error) {
	for {
		if room := o.room(); room > 0 {
			return room, o.s.Err()
		}
		select {
		case <-o.credited:
		case <-o.s.ctx.Done():
			return 0, o.s.Err()
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// Over reports whether nothing is sent again: the peer has all that there was to send, or does not want it. It never blocks.
func (s *Stream) Over() bool {
	last := s.out.last.Load()
	return s.muted() != nil || last != 0 && s.out.peerAck.Load() >= last
}

// Unacknowledged reports the memory of frames that the peer has not acknowledged; 0 means that nothing need be kept.
func (s *Stream) Unacknowledged() int {
	if s.muted() != nil { // it is not sent again
		return 0
	}
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.out.trim()
	n := 0
	for _, f := range s.out.kept {
		n += cap(f.payload)
	}
	return n
}
