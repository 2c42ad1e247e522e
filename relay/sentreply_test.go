package relay

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// sentReply is a reply that left in one frame, the peer that it is for, and what has been published.
type sentReply struct {
	*SentReply
	peer *peer
	mu   sync.Mutex
	all  [][]byte // published, the status behind
}

func newSentReply(t *testing.T) *sentReply {
	t.Helper()
	p := newPeer(t, RoleService)
	s := &sentReply{peer: p}
	checked := p.s.cfg.Publish
	p.s.cfg.Publish = func(b []byte, f FrameType, status int) error {
		s.mu.Lock()
		s.all = append(s.all, append(bytes.Clone(b), byte(status)))
		s.mu.Unlock()
		return checked(b, f, status)
	}
	if err := p.deliver(FrameEnd, 1, []byte("{}")); err != nil { // the request is whole
		t.Fatal(err)
	}
	if err := p.s.SendHead([]byte("{}"), []byte("body"), true, 200); err != nil {
		t.Fatal(err)
	}
	if s.SentReply = p.s.Sent(); s.SentReply == nil {
		t.Fatal("the stream stays")
	}
	if p.s.Err() == nil {
		t.Error("the stream lives on")
	}
	return s
}

// published waits for what is under way, and tells how often the reply left; always the same bytes.
func (s *sentReply) published(t *testing.T) int {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.all {
		if !bytes.Equal(b, s.all[0]) {
			t.Error("other bytes, or another status, were sent again")
		}
	}
	return len(s.all)
}

// credit is what the publisher says with another credit frame.
func (s *sentReply) credit(ack uint64, resend bool) error {
	t, body := creditFrame(ack, firstWindow, resend)
	s.peer.ctl++
	return s.Deliver(s.peer.payload(t, s.peer.ctl, body))
}

// The reply is sent again when its publisher asks or the connection is back, not more often than it may ask, and not once it
// has arrived or nobody waits for it.
func TestSentReplyIsSentAgain(t *testing.T) {
	ends := map[string]func(s *sentReply) error{
		"acknowledged": func(s *sentReply) error { return s.credit(1, true) },
		"canceled": func(s *sentReply) error {
			return s.Deliver(s.peer.payload(FrameCancel, controlSeq+1000, []byte("canceled")))
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSentReply(t)
				want := func(n int, when string) {
					t.Helper()
					if got := s.published(t); got != n {
						t.Errorf("%s: sent %d times, want %d", when, got, n)
					}
				}
				ask := func() {
					t.Helper()
					if err := s.credit(0, true); err != nil {
						t.Error(err)
					}
				}
				want(1, "at first")
				if err := s.credit(0, false); err != nil {
					t.Error(err)
				}
				want(1, "a sign of life")
				ask()
				want(2, "asked")
				for range 100 {
					ask()
				}
				want(2, "asked at once again")
				time.Sleep(resendPause) // synctest's clock
				want(3, "after the pause")
				s.Resend()
				want(4, "after a reconnect")
				ask()
				if err := end(s); err != nil {
					t.Error(err)
				}
				time.Sleep(resendPause)
				s.Resend()
				want(4, name)
			})
		})
	}
}

// What does not open, was heard before or has no business there changes nothing.
func TestSentReplyDropsRubbish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSentReply(t)
		f, body := creditFrame(0, firstWindow, true)
		other := newFrame(0, f, controlSeq+9, len(body))
		for name, b := range map[string][]byte{
			"nothing":            nil,
			"noise":              []byte("noise that is long enough to be a frame"),
			"under another key":  sealFrame(testGrant().keys.request(fixedID("another")), append(other, body...), 0),
			"an ordered frame":   s.peer.payload(FrameData, 2, []byte("data")),
			"a credit too short": s.peer.payload(f, controlSeq+1, body[1:]),
		} {
			if s.Deliver(b) == nil {
				t.Errorf("%s is taken", name)
			}
		}
		again := s.peer.payload(f, controlSeq+2, body)
		if err := s.Deliver(bytes.Clone(again)); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * resendPause) // synctest's clock
		if err := s.Deliver(again); !errors.Is(err, errDropped) {
			t.Errorf("the same credit again: %v", err)
		}
		time.Sleep(resendPause)
		if n := s.published(t); n != 2 {
			t.Errorf("sent %d times, want 2: only one frame was the publisher's", n)
		}
	})
}

// A stream stays one where more is to come, or to be acknowledged, or its memory is used again.
func TestStreamThatIsNoSentReply(t *testing.T) {
	whole := func(p *peer) { _ = p.deliver(FrameEnd, 1, []byte("{}")) }
	send := func(p *peer, size int) { _ = p.s.SendHead([]byte("{}"), make([]byte, size), true, 200) }
	for name, make := range map[string]func(p *peer){
		"the request is not complete": func(p *peer) { send(p, 10) },
		"nothing was sent":            whole,
		"it was acknowledged":         func(p *peer) { whole(p); send(p, 10); _ = p.credit(1, firstWindow, false) },
		"a 1xx came before":           func(p *peer) { whole(p); _ = p.s.SendInform([]byte("{}")); send(p, 10) },
		"it is streamed":              func(p *peer) { whole(p); _ = p.s.SendHead([]byte("{}"), nil, false, 200) },
		"it ended in a frame of its own": func(p *peer) {
			whole(p)
			_ = p.s.SendHead([]byte("{}"), nil, false, 200)
			_ = p.credit(1, firstWindow, false)
			_ = p.s.SendEnd([]byte("{}"), 200)
		},
		"it is large":     func(p *peer) { whole(p); p.s.cfg.Limit = MaxFrame; send(p, largeLeast) },
		"the caller left": func(p *peer) { whole(p); send(p, 10); _ = p.deliver(FrameCancel, controlSeq+1, nil) },
	} {
		p := newPeer(t, RoleService)
		make(p)
		failed := p.s.Err() != nil
		if p.s.Sent() != nil {
			t.Errorf("%s, and only the reply is kept", name)
		}
		if (p.s.Err() != nil) != failed {
			t.Errorf("%s: the stream was closed", name)
		}
		p.s.Close()
	}
	p := newPeer(t, RoleApp)
	defer p.s.Close()
	send(p, 10)
	if p.s.Sent() != nil {
		t.Error("a publisher's request is no reply")
	}
}

// A reply that is lost arrives after all: the publisher's own stream asks for it.
func TestSentReplyReachesItsPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		grant, id := testGrant(), fixedID("request")
		config := func(role Role, publish Publish) StreamConfig {
			return StreamConfig{Role: role, ID: id, Grant: grant, Limit: pairLimit, Budget: NewBudget(0), Now: time.Now, Publish: publish}
		}
		var app *Stream
		lost := true
		svc := config(RoleService, func(b []byte, _ FrameType, _ int) error {
			if lost {
				lost = false
				return nil
			}
			return app.Deliver(bytes.Clone(b))
		})
		svc.Request = HeadFrame{Type: FrameWhole}
		worker := NewStream(t.Context(), svc)
		if err := worker.SendHead([]byte("{}"), []byte("late"), true, 200); err != nil {
			t.Fatal(err)
		}
		reply := worker.Sent()
		app = NewStream(t.Context(), config(RoleApp, func(b []byte, f FrameType, _ int) error {
			if f == FrameCredit {
				return reply.Deliver(bytes.Clone(b))
			}
			return nil
		}))
		defer app.Close()
		if err := app.SendHead([]byte("{}"), nil, true, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(KeepAlive) // synctest's clock
		app.Tick()
		head, err := app.Head(t.Context())
		if err != nil || head.Type != FrameWhole || string(head.Body) != "late" {
			t.Errorf("%v %q: %v", head.Type, head.Body, err)
		}
	})
}
