package relay

import (
	"sync"
	"time"
)

// SentReply is a reply that left a worker in one frame, as most do, and what it takes to send that again. Nobody acknowledges
// such a reply (PROTOCOL.md §7), so a busy worker keeps thousands: without the keys, buffers and contexts of their streams.
//
// Deliver may be called from a NATS callback: it never blocks and never publishes. Methods may be called from any goroutine.
type SentReply struct {
	grant   *Grant
	id      ID
	publish Publish
	now     func() time.Time
	payload []byte
	status  int

	mu      sync.Mutex
	control uint64    // highest control seq seen
	over    bool      // the publisher has it, or left
	asked   bool      // it is about to be sent again
	resent  time.Time // when it was last sent again
}

// Sent closes a worker's stream and returns what of it need be kept, if the reply is one frame that the publisher has not
// acknowledged and the request has come whole. Else it returns nil and changes nothing.
func (s *Stream) Sent() *SentReply {
	if s.cfg.Role != RoleService || s.Err() != nil {
		return nil
	}
	s.in.mu.Lock()
	whole, control := s.in.phase == complete, s.in.control
	s.in.mu.Unlock()
	s.out.mu.Lock()
	s.out.trim()
	// The memory of a large frame is used again, by whoever is the next to need it.
	if !whole || len(s.out.kept) != 1 || s.out.kept[0].t != FrameWhole || cap(s.out.kept[0].payload) >= largeLeast {
		s.out.mu.Unlock()
		return nil
	}
	f := s.out.kept[0]
	s.out.mu.Unlock()
	s.Close()
	return &SentReply{grant: s.cfg.Grant, id: s.cfg.ID, publish: s.cfg.Publish, now: s.cfg.Now, payload: f.payload, status: f.status, control: control}
}

// Size is how many bytes are kept.
func (r *SentReply) Size() int { return cap(r.payload) }

// Over reports whether nobody needs the reply any more: its publisher has it, or left.
func (r *SentReply) Over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over
}

// Deliver takes in one payload from NATS, as Stream.Deliver does.
func (r *SentReply) Deliver(b []byte) error {
	f, err := openFrame(r.grant.keys.request(r.id), b)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !f.Type.control() || f.Seq <= r.control {
		return errDropped
	}
	r.control = f.Seq
	if f.Type == FrameCancel {
		r.over = true
		return nil
	}
	ack, _, resend, err := parseCredit(f.Body)
	if err != nil {
		return err
	}
	r.over = r.over || ack > 0
	if resend && !r.asked {
		r.asked = true
		time.AfterFunc(r.resent.Add(resendPause).Sub(r.now()), r.Resend)
	}
	return nil
}

// Resend publishes the very bytes of the reply again, unless the publisher has them or left.
func (r *SentReply) Resend() {
	r.mu.Lock()
	over := r.over
	r.asked, r.resent = false, r.now()
	r.mu.Unlock()
	if !over {
		_ = r.publish(r.payload, FrameWhole, r.status) // away again: the next reconnect or request resumes
	}
}
