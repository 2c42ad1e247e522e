package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
)

func TestStreamCarriesBothBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { newPair(t).exchangeIntact() })
}

// countMessages is how many messages an exchange without faults takes in each direction.
func countMessages(t *testing.T) (toSvc, toApp int) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.exchangeIntact()
		toSvc, toApp = p.toSvc.count(), p.toApp.count()
	})
	return toSvc, toApp
}

// Every single message once dropped, cut short, or altered: the bodies arrive whole. Message 0 to the worker is frame 0,
// which only a reconnect sends again; see TestStreamFirstFrameLost.
func TestStreamSurvivesTheLossOfAnyMessage(t *testing.T) {
	toSvc, toApp := countMessages(t)
	if toSvc < 20 || toApp < 20 {
		t.Fatalf("only %d and %d messages", toSvc, toApp)
	}
	faults := map[string]func(message) []message{
		"dropped": func(message) []message { return nil },
		"cut":     func(m message) []message { m.payload = m.payload[:len(m.payload)-1]; return []message{m} },
		"altered": func(m message) []message { m.payload[len(m.payload)/2] ^= 1; return []message{m} },
		"emptied": func(m message) []message { m.payload = nil; return []message{m} },
	}
	for name, fault := range faults {
		for direction, count := range []int{toSvc, toApp} {
			for n := 1 - direction; n < count; n++ {
				t.Run(fmt.Sprintf("%s/%d/%d", name, direction, n), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						p := newPair(t)
						l := []*link{p.toSvc, p.toApp}[direction]
						l.mangle = func(i int, m message) []message {
							if i == n {
								return fault(m)
							}
							return []message{m}
						}
						p.exchangeIntact()
					})
				})
			}
		}
	}
}

func TestStreamSurvivesDisorder(t *testing.T) {
	twice := func(_ int, m message) []message { return []message{m, m} }
	swap := func() func(int, message) []message {
		var held *message
		return func(n int, m message) []message {
			if held == nil && n > 0 {
				held = &m
				return nil
			}
			if held == nil {
				return []message{m}
			}
			out := []message{m, *held}
			held = nil
			return out
		}
	}
	replay := func() func(int, message) []message { // each message, then everything before it once more
		var past []message
		return func(_ int, m message) []message {
			out := append([]message{m}, past...)
			if len(past) < 30 {
				past = append(past, m)
			}
			return out
		}
	}
	for name, mangle := range map[string][2]func(int, message) []message{
		"every message twice":   {twice, twice},
		"every pair swapped":    {swap(), swap()},
		"everything replayed":   {replay(), replay()},
		"swapped and duplicate": {swap(), twice},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t)
				p.toSvc.mangle, p.toApp.mangle = mangle[0], mangle[1]
				p.exchangeIntact()
			})
		})
	}
}

func TestStreamSurvivesChaos(t *testing.T) {
	for n := range uint64(20) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t)
				r, back := rand.New(rand.NewPCG(n, 1)), rand.New(rand.NewPCG(n, 2))
				var held []message
				var lost, lostBack int // in a row: three keep-alives that are lost are silence, rightly
				p.toSvc.mangle = func(i int, m message) []message {
					what := r.IntN(10)
					if i == 0 || lost == 2 {
						what = 9
					}
					lost++
					switch what {
					case 0:
						return nil
					case 2:
						held = append(held, m)
						return nil
					}
					lost = 0
					switch what {
					case 1:
						return []message{m, m}
					case 3:
						out := append([]message{m}, held...)
						held = nil
						return out
					}
					return []message{m}
				}
				p.toApp.mangle = func(_ int, m message) []message {
					if back.IntN(10) == 0 && lostBack < 2 {
						lostBack++
						return nil
					}
					lostBack = 0
					return []message{m}
				}
				p.exchangeIntact()
			})
		})
	}
}

// NATS goes away in the middle and comes back: every publish fails meanwhile, and nothing is lost.
func TestStreamSurvivesReconnects(t *testing.T) {
	for _, after := range []int{1, 2, 5, 9, 14} {
		t.Run(fmt.Sprint(after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t)
				p.toSvc.mangle = func(n int, m message) []message {
					if n%after == 0 && n > 0 && n <= 4*after {
						p.down.Store(true)
						p.wg.Go(func() {
							time.Sleep(time.Second) // synctest's clock
							p.reconnect()
						})
					}
					return []message{m}
				}
				p.exchangeIntact()
			})
		})
	}
}

// Frame 0 is lost although publish succeeded: a reconnect sends the same bytes again.
func TestStreamFirstFrameLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.toSvc.mangle = func(n int, m message) []message {
			if n == 0 {
				p.wg.Go(func() {
					time.Sleep(time.Second) // synctest's clock
					p.reconnect()
				})
				return nil
			}
			return []message{m}
		}
		p.exchangeIntact()
	})
}

// What SendHead could not publish is "not delivered", and must never be sent afterwards.
func TestStreamFirstFrameFailed(t *testing.T) {
	for _, failure := range []error{nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrMaxPayload} {
		published := 0
		fail := true
		s := NewStream(t.Context(), StreamConfig{
			Role: RoleApp, ID: NewID(), Grant: testGrant(), Limit: pairLimit, Budget: NewBudget(0), Now: time.Now,
			Publish: func(_ []byte, ft FrameType, _ int) error {
				if fail {
					return failure
				}
				if ft != FrameCredit {
					published++
				}
				return nil
			},
		})
		if err := s.SendHead([]byte("{}"), nil, true, 0); !errors.Is(err, failure) {
			t.Errorf("SendHead: %v, want %v", err, failure)
		}
		fail = false
		s.Resend() // the connection is back before the caller has closed the stream
		s.out.resend()
		s.Tick()
		if published != 0 {
			t.Errorf("%v: the request was published after its caller was told that it was not", failure)
		}
		if s.Err() == nil || s.SendEnd(nil, 0) == nil {
			t.Errorf("%v: the stream lives on", failure)
		}
		s.Close()
	}
}

// A publish that fails for good in the middle ends the stream.
func TestStreamPublishFails(t *testing.T) {
	var failure error
	s := NewStream(t.Context(), StreamConfig{
		Role: RoleApp, ID: NewID(), Grant: testGrant(), Limit: pairLimit, Budget: NewBudget(0), Now: time.Now,
		Publish: func([]byte, FrameType, int) error { return failure },
	})
	defer s.Close()
	if err := s.SendHead([]byte("{}"), nil, false, 0); err != nil {
		t.Fatal(err)
	}
	failure = nats.ErrReconnectBufExceeded
	if n, err := s.WriteData(t.Context(), make([]byte, 100)); n != 100 || err != nil {
		t.Errorf("while NATS is away: %d, %v", n, err)
	}
	failure = nats.ErrConnectionClosed
	if _, err := s.WriteData(t.Context(), make([]byte, 100)); !errors.Is(err, CodeStreamBroken) || !errors.Is(err, failure) {
		t.Errorf("after NATS is closed: %v", err)
	}
	if !errors.Is(s.Err(), CodeStreamBroken) {
		t.Errorf("the stream's failure is %v", s.Err())
	}
}

func TestStreamSilence(t *testing.T) {
	for role, code := range map[Role]Code{RoleApp: CodeOutcomeUnknown, RoleService: CodeStreamBroken} {
		synctest.Test(t, func(t *testing.T) {
			p := newPeer(t, role)
			defer p.s.Close()
			started := time.Now()
			replayed := p.payload(FrameCredit, controlSeq+1, make([]byte, creditSize))
			for p.s.Err() == nil && time.Since(started) < time.Minute {
				time.Sleep(250 * time.Millisecond) // synctest's clock
				p.s.Tick()
				_ = p.s.Deliver(append([]byte(nil), replayed...)) // an old frame, played again and again
			}
			if d := time.Since(started); d < Silence || d > Silence+time.Second || !errors.Is(p.s.Err(), code) {
				t.Errorf("%s: ended after %v: %v", role, d, p.s.Err())
			}
			if _, err := p.s.Read(make([]byte, 1)); !errors.Is(err, code) {
				t.Errorf("%s: Read: %v", role, err)
			}
			// A worker that was only stopped hears it when it goes on.
			if last := p.got[len(p.got)-1]; (last.Type == FrameCancel) != (role == RoleApp) {
				t.Errorf("%s: the last frame has type %d", role, last.Type)
			}
		})
	}
}

// A process that was stopped has not listened, so the time is not its peer's silence: what came meanwhile is heard first. From
// then on silence counts as ever, and a frame that is missing too.
func TestStreamOfAStoppedProcess(t *testing.T) {
	for _, role := range []Role{RoleApp, RoleService} {
		for _, gap := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				p := newPeer(t, role)
				defer p.s.Close()
				tick := func(d time.Duration) {
					for range d / (250 * time.Millisecond) {
						time.Sleep(250 * time.Millisecond) // synctest's clock
						p.s.Tick()
					}
				}
				if err := p.credit(0, firstWindow, false); err != nil {
					t.Fatal(err)
				}
				if gap {
					_ = p.deliver(FrameData, 2, []byte("ahead"))
				}
				for range 2 { // of which two seconds count
					tick(time.Second)
					time.Sleep(time.Minute) // stopped
					p.s.Tick()
				}
				if p.s.Err() != nil {
					t.Fatalf("%s: stopped, not silent: %v", role, p.s.Err())
				}
				tick(Silence - 5*time.Second)
				if p.s.Err() != nil {
					t.Fatalf("%s: %v", role, p.s.Err())
				}
				if gap {
					if err := p.credit(0, firstWindow, false); err != nil {
						t.Fatal(err)
					}
				}
				tick(2 * time.Second)
				if p.s.Err() == nil {
					t.Errorf("%s: silence after it is none, gap %v", role, gap)
				}
			})
		}
	}
}

// A worker whose stream is broken says how the request ended, and says it again where it is asked to: its publisher would wait
// until the silence is long enough. Nothing follows when the publisher has left.
func TestStreamThatIsBrokenTakesItsLastFrame(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(*peer)
		tells bool
	}{
		"an unreadable end":    {func(p *peer) { _ = p.deliver(FrameEnd, 1, []byte("{")); _, _ = p.s.Read(nil) }, true},
		"a second head":        {func(p *peer) { _ = p.deliver(FrameHead, 1, headPlaintext("{}", "")) }, true},
		"data over the credit": {func(p *peer) { p.s.in.received = firstWindow; _ = p.deliver(FrameData, 1, []byte("x")) }, true},
		"silence":              {func(p *peer) { p.s.Fail(NewError(CodeStreamBroken, "silence")) }, true},
		"a cancel":             {func(p *peer) { _ = p.deliver(FrameCancel, controlSeq+1, []byte("stream_broken")) }, false},
		"its own end":          {func(p *peer) { p.s.Close() }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPeer(t, RoleService)
			defer p.s.Close()
			c.fault(p)
			if p.s.Err() == nil {
				t.Fatalf("%s: the stream lives", name)
			}
			if p.s.SendHead([]byte("{}"), nil, false, 200) == nil || p.s.SendInform([]byte("{}")) == nil {
				t.Errorf("%s: a reply begins", name)
			}
			if err := p.s.SendHead([]byte("{}"), nil, true, 502); (err == nil) != c.tells {
				t.Errorf("%s: the last frame: %v", name, err)
			}
			_ = p.credit(0, firstWindow, true)
			time.Sleep(resendPause) // synctest's clock
			synctest.Wait()
			p.s.Resend()
			want := 0
			if c.tells {
				want = 3
			}
			if len(p.got) != want {
				t.Errorf("%s: %d frames were sent, want %d", name, len(p.got), want)
			}
		})
	}
}

// A slow handler: nothing but keep-alives for ten minutes, and the stream lives.
func TestStreamKeepsAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.start()
		defer p.close()
		if err := p.app.SendHead([]byte("{}"), nil, true, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) // synctest's clock
		<-p.accepted
		if p.app.Err() != nil || p.svc.Err() != nil {
			t.Fatalf("%v, %v", p.app.Err(), p.svc.Err())
		}
		if per := 10 * time.Minute / KeepAlive; p.toApp.count() > int(per)*3/2 || p.toSvc.count() > int(per)*3/2 {
			t.Errorf("%d and %d keep-alives", p.toSvc.count(), p.toApp.count())
		}
		if err := p.svc.SendHead([]byte("{}"), []byte("done"), true, 200); err != nil {
			t.Fatal(err)
		}
		h, err := p.app.Head(t.Context())
		if err != nil || h.Type != FrameWhole || string(h.Body) != "done" {
			t.Errorf("%+v %v", h, err)
		}
	})
}

// A frame is lost for good while the peer lives: broken, not for ever (PROTOCOL.md §7, Order).
func TestStreamGapThatStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t, RoleService)
		defer p.s.Close()
		if p.deliver(FrameData, 2, []byte("ahead")) == nil {
			t.Error("a frame ahead of its turn was taken")
		}
		started := time.Now()
		for p.s.Err() == nil && time.Since(started) < time.Minute {
			time.Sleep(250 * time.Millisecond) // synctest's clock
			if err := p.credit(0, firstWindow, false); err != nil {
				t.Fatal(err)
			}
			p.s.Tick()
		}
		if d := time.Since(started); d < Silence || d > Silence+time.Second || !errors.Is(p.s.Err(), CodeStreamBroken) {
			t.Errorf("ended after %v: %v", d, p.s.Err())
		}
	})
}

func TestStreamCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.start()
		defer p.close()
		if err := p.app.SendHead([]byte("{}"), nil, false, 0); err != nil {
			t.Fatal(err)
		}
		<-p.accepted
		p.app.Cancel(CodeTimeout, CodeTimeout)
		if _, err := p.svc.Read(make([]byte, 1)); !errors.Is(err, CodeCanceled) {
			t.Errorf("worker's reader: %v", err)
		}
		if _, err := p.svc.WriteData(t.Context(), []byte("x")); !errors.Is(err, CodeCanceled) {
			t.Errorf("worker's writer: %v", err)
		}
		if !errors.Is(context.Cause(p.svc.Context()), CodeCanceled) {
			t.Errorf("worker's context: %v", context.Cause(p.svc.Context()))
		}
	})
}

// A cancel never goes ahead of a head that is still to be sent: it would find nobody, and the request would be executed.
func TestStreamCancelStopsTheHeadFirst(t *testing.T) {
	var s *Stream
	failed := false
	s = NewStream(t.Context(), StreamConfig{
		Role: RoleApp, ID: NewID(), Grant: testGrant(), Limit: pairLimit, Budget: NewBudget(0), Now: time.Now,
		Publish: func(_ []byte, ft FrameType, _ int) error {
			failed = ft == FrameCancel && s.Err() != nil
			return nil
		},
	})
	defer s.Close()
	s.Cancel(CodeCanceled, CodeTimeout)
	if !failed || !errors.Is(s.Err(), CodeTimeout) {
		t.Errorf("the cancel was sent while the stream could still send its head (%v)", s.Err())
	}
	if err := s.SendHead([]byte("{}"), nil, true, 0); !errors.Is(err, CodeTimeout) {
		t.Errorf("a head after the cancel: %v", err)
	}
}

// Nor does anything go again after it: whoever has decided to send it again before may be waiting for the lock.
func TestStreamResendsNothingAfterItsEnd(t *testing.T) {
	p := newPeer(t, RoleApp)
	defer p.s.Close()
	if err := p.s.SendHead([]byte("{}"), nil, true, 0); err != nil {
		t.Fatal(err)
	}
	p.s.Cancel(CodeCanceled, CodeCanceled)
	p.s.out.resend()
	if n := len(p.got); n != 2 || p.got[0].Type != FrameWhole || p.got[1].Type != FrameCancel {
		t.Errorf("%d frames, the last is %v: want the head and its cancel", n, p.got[n-1].Type)
	}
}

// A peer that asks for everything again and again, in frames of a few bytes, does not get everything each time.
func TestStreamPacesResends(t *testing.T) {
	for _, role := range []Role{RoleApp, RoleService} {
		synctest.Test(t, func(t *testing.T) {
			p := newPeer(t, role)
			defer p.s.Close()
			if err := p.s.SendHead([]byte("{}"), nil, false, 0); err != nil {
				t.Fatal(err)
			}
			if _, err := p.s.WriteData(t.Context(), make([]byte, firstWindow)); err != nil {
				t.Fatal(err)
			}
			ordered := func() (n int) {
				synctest.Wait()
				p.mu.Lock()
				defer p.mu.Unlock()
				for _, f := range p.got {
					if !f.Type.control() {
						n++
					}
				}
				return n
			}
			all := ordered()
			for range 100 {
				if err := p.credit(0, firstWindow, true); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
			if n := ordered(); n != 2*all {
				t.Errorf("%s: %d frames, %d were sent again at once: want each once", role, all, n-all)
			}
			time.Sleep(resendPause) // synctest's clock
			if n := ordered(); n != 3*all {
				t.Errorf("%s: %d frames, %d were sent again: want each once more for what was asked meanwhile", role, all, n-all)
			}
		})
	}
}

// Only a publisher may cancel: the worker's cancel changes nothing.
func TestStreamCancelFromTheWorkerIsIgnored(t *testing.T) {
	p := newPeer(t, RoleApp)
	defer p.s.Close()
	_ = p.deliver(FrameCancel, controlSeq+1, []byte("canceled"))
	if p.s.Err() != nil {
		t.Error(p.s.Err())
	}
}

func TestStreamContexts(t *testing.T) {
	cause := errors.New("the caller hung up")
	ctx, cancel := context.WithCancelCause(t.Context())
	p := newPeer(t, RoleService)
	defer p.s.Close()
	cancel(cause)
	if _, err := p.s.ReadContext(ctx, make([]byte, 1)); !errors.Is(err, cause) {
		t.Errorf("ReadContext: %v", err)
	}
	p.s.out.sent = firstWindow
	if _, err := p.s.WriteData(ctx, []byte("x")); !errors.Is(err, cause) {
		t.Errorf("WriteData: %v", err)
	}
	if p.s.Err() != nil {
		t.Errorf("the stream ended with the reader's context: %v", p.s.Err())
	}
	s := NewStream(ctx, p.s.cfg)
	if !errors.Is(s.Err(), cause) {
		t.Errorf("the stream's own context: %v", s.Err())
	}
	s.Close()
	p.s.Fail(CodeTimeout)
	p.s.Fail(CodeCanceled)
	if !errors.Is(p.s.Err(), CodeTimeout) {
		t.Errorf("the first failure does not count: %v", p.s.Err())
	}
}

// A failure in the end, whatever came before it, is never a complete body.
func TestStreamFailureInEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.start()
		defer p.close()
		if err := p.app.SendHead([]byte("{}"), nil, true, 0); err != nil {
			t.Fatal(err)
		}
		<-p.accepted
		end, err := EncodeHead(&End{Failure: NewError(CodeUpstreamFailed, "the app closed the connection").Problem()})
		if err != nil {
			t.Fatal(err)
		}
		_ = p.svc.SendHead([]byte("{}"), []byte("half"), false, 200)
		_ = p.svc.SendEnd(end, 200)
		if _, err := p.app.Head(t.Context()); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p.app)
		e := AsError(err)
		if string(b) != "half" || e.Code != CodeUpstreamFailed || !e.Remote || p.app.Complete() {
			t.Errorf("%q, %v, complete %v", b, err, p.app.Complete())
		}
		if err := p.svc.SendEnd(end, 200); err == nil {
			t.Error("a second end was sent")
		}
	})
}

// Half of a reply has come, so the request was started, whatever the code of what broke it off says of requests that were not;
// and an end that does not fit is no fault of the request.
func TestStreamFailureInEndIsNeverNotStarted(t *testing.T) {
	failure := func(code Code) []byte {
		b, err := EncodeHead(&End{Failure: NewError(code, "half way").Problem()})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, c := range map[string]struct {
		end  []byte
		code Code
	}{
		"a code of requests that were not started": {failure(CodeUpstreamDown), CodeUpstreamDown},
		"a code of requests that never left":       {failure(CodeBodyTooLarge), CodeBodyTooLarge},
		"a trailer that cannot be one":             {[]byte(`{"trailer":{"x":["1"]}}`), CodeStreamBroken},
		"no JSON":                                  {[]byte("{"), CodeStreamBroken},
	} {
		p := newPeer(t, RoleApp)
		if err := errors.Join(p.deliver(FrameHead, 0, headPlaintext("{}", "half")), p.deliver(FrameEnd, 1, c.end)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.s.Head(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := io.ReadAll(p.s)
		if e := AsError(err); e.Code != c.code || e.Problem().Outcome != Unknown {
			t.Errorf("%s: %s, %s", name, e.Code, e.Problem().Outcome)
		}
		p.s.Close()
	}
}

// A body is complete by whole or end alone: every other way for it to stop is an error.
func TestStreamTruncation(t *testing.T) {
	for name, last := range map[string]func(*peer) error{
		"the stream closes": func(p *peer) error { p.s.Close(); return nil },
		"an unreadable end": func(p *peer) error { return p.deliver(FrameEnd, 2, []byte("{")) },
		"an empty end":      func(p *peer) error { return p.deliver(FrameEnd, 2, nil) },
		"a second head":     func(p *peer) error { _ = p.deliver(FrameHead, 2, headPlaintext("{}", "")); return nil },
	} {
		p := newPeer(t, RoleService)
		if err := errors.Join(p.deliver(FrameData, 1, []byte("half")), last(p)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := io.ReadAll(p.s); err == nil || string(b) != "half" || p.s.Complete() {
			t.Errorf("%s: %q is a complete body: %v", name, b, err)
		}
		p.s.Close()
	}
}

// The window opens as the reader reads, to 1 MiB at most, and only as far as the budget allows.
func TestStreamFlowControl(t *testing.T) {
	for name, c := range map[string]struct{ budget, most int64 }{
		"enough budget": {4 << 20, maxWindow}, "no budget": {0, firstWindow}, "some budget": {firstWindow * 4, firstWindow * 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t)
				p.budget.free.Store(c.budget)
				p.start()
				const total = 8 << 20
				done := make(chan error, 1)
				if err := p.app.SendHead([]byte("{}"), nil, false, 0); err != nil {
					t.Fatal(err)
				}
				go func() {
					_, err := p.app.WriteData(t.Context(), make([]byte, total))
					done <- err
				}()
				synctest.Wait()
				if p.svc.in.received != firstWindow {
					t.Errorf("%d bytes came without a reader, the window is %d", p.svc.in.received, firstWindow)
				}
				time.Sleep(time.Minute) // synctest's clock: nobody reads, and nobody minds
				var most int64
				buf := make([]byte, 5000)
				for read := 0; read < total; {
					n, err := p.svc.Read(buf)
					if err != nil {
						t.Fatal(err)
					}
					read += n
					synctest.Wait()
					most = max(most, p.svc.in.received-p.svc.in.consumed)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				if most > c.most || most < c.most/2 {
					t.Errorf("up to %d bytes waited for the reader, want up to %d", most, c.most)
				}
				if p.app.Unacknowledged() > maxWindow*11/10 {
					t.Errorf("the sender keeps %d bytes", p.app.Unacknowledged())
				}
				p.app.Close()
				close(p.stop)
				p.wg.Wait()
				p.svc.Close()
				p.svc.Close()
				if p.budget.free.Load() != c.budget {
					t.Errorf("the budget is %d after Close, was %d", p.budget.free.Load(), c.budget)
				}
			})
		})
	}
}

func TestBudget(t *testing.T) {
	b := NewBudget(100)
	if !b.take(60) || b.take(41) || !b.take(40) || b.take(1) {
		t.Error("takes more or less than there is")
	}
	b.give(100)
	if !b.take(100) {
		t.Error("what was given back is not there")
	}
}

// A peer that lies with its keys in hand can end its own stream and nothing else.
func TestStreamLyingPeer(t *testing.T) {
	head := headPlaintext("{}", "")
	for name, c := range map[string]struct {
		role Role
		lie  func(p *peer)
	}{
		"data over the credit": {RoleService, func(p *peer) {
			for seq := uint64(1); seq < 6; seq++ {
				_ = p.deliver(FrameData, seq, make([]byte, firstWindow/4))
			}
		}},
		"data without a byte":       {RoleService, func(p *peer) { _ = p.deliver(FrameData, 1, nil) }},
		"a second head to a worker": {RoleService, func(p *peer) { _ = p.deliver(FrameHead, 1, head) }},
		"a whole to a worker":       {RoleService, func(p *peer) { _ = p.deliver(FrameWhole, 1, head) }},
		"an inform to a worker":     {RoleService, func(p *peer) { _ = p.deliver(FrameInform, 1, []byte("{}")) }},
		"data after the end":        {RoleService, func(p *peer) { _ = p.deliver(FrameEnd, 1, []byte("{}")); _ = p.deliver(FrameData, 2, []byte("x")) }},
		"an end after the end":      {RoleService, func(p *peer) { _ = p.deliver(FrameEnd, 1, []byte("{}")); _ = p.deliver(FrameEnd, 2, []byte("{}")) }},
		"data after a whole": {RoleService, func(p *peer) {
			cfg := p.s.cfg
			cfg.Request = HeadFrame{Type: FrameWhole, key: cfg.Grant.keys.request(cfg.ID)}
			p.s = NewStream(context.Background(), cfg)
			_ = p.deliver(FrameData, 1, []byte("x"))
		}},
		"data before the reply's head":   {RoleApp, func(p *peer) { _ = p.deliver(FrameData, 0, []byte("x")) }},
		"an end before the reply's head": {RoleApp, func(p *peer) { _ = p.deliver(FrameEnd, 0, []byte("{}")) }},
		"two heads":                      {RoleApp, func(p *peer) { _ = p.deliver(FrameHead, 0, head); _ = p.deliver(FrameHead, 1, head) }},
		"an inform after the head":       {RoleApp, func(p *peer) { _ = p.deliver(FrameHead, 0, head); _ = p.deliver(FrameInform, 1, []byte("{}")) }},
		"a head without its length":      {RoleApp, func(p *peer) { _ = p.deliver(FrameHead, 0, []byte("{}")); _, _ = p.s.Head(context.Background()) }},
		"a head longer than its frame": {RoleApp, func(p *peer) {
			_ = p.deliver(FrameHead, 0, []byte("\x00\x00\x00\x09{}"))
			_, _ = p.s.Head(context.Background())
		}},
		"a head of 4 GiB": {RoleApp, func(p *peer) {
			_ = p.deliver(FrameHead, 0, []byte("\xff\xff\xff\xff{}"))
			_, _ = p.s.Head(context.Background())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, c.role)
			defer p.s.Close()
			c.lie(p)
			if !errors.Is(p.s.Err(), CodeStreamBroken) {
				t.Errorf("the stream's failure is %v", p.s.Err())
			}
			if len(p.s.in.queue) > 0 && p.s.in.received > firstWindow+firstWindow/4 {
				t.Errorf("%d bytes are queued", p.s.in.received)
			}
		})
	}
}

// Informs that nobody reads take little memory, and do not cost the reply that they announce.
func TestStreamLeavesInformsOut(t *testing.T) {
	p := newPeer(t, RoleApp)
	defer p.s.Close()
	const all = 1000
	for seq := range uint64(all) {
		if err := p.deliver(FrameInform, seq, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(p.s.in.queue); n != maxInforms {
		t.Errorf("%d informs are queued", n)
	}
	if err := p.deliver(FrameWhole, all, headPlaintext("{}", "")); err != nil {
		t.Fatal(err)
	}
	for n := 0; ; n++ {
		h, err := p.s.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if h.Type == FrameWhole {
			break
		}
		if n == maxInforms {
			t.Fatal("more informs than may wait")
		}
	}
}

// Endless credit without acknowledgement would have the sender keep everything.
func TestStreamLyingCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t, RoleService)
		defer p.s.Close()
		if err := p.credit(0, 1<<62, false); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan int, 1)
		_ = p.s.SendHead([]byte("{}"), nil, false, 200)
		go func() {
			n, _ := p.s.WriteData(ctx, make([]byte, 8<<20))
			sent <- n
		}()
		synctest.Wait()
		if kept := p.s.Unacknowledged(); kept > maxWindow*11/10 {
			t.Errorf("%d bytes are kept", kept)
		}
		if err := p.credit(1, 1<<62, false); err != nil { // acknowledges the head alone
			t.Fatal(err)
		}
		synctest.Wait()
		cancel()
		if n := <-sent; n != maxWindow {
			t.Errorf("%d bytes were sent, want %d", n, maxWindow)
		}
	})
}

// An acknowledgement of frames that were never sent hurts only the liar.
func TestStreamLyingAck(t *testing.T) {
	p := newPeer(t, RoleService)
	defer p.s.Close()
	if err := p.credit(1<<64-1, firstWindow, true); err != nil {
		t.Fatal(err)
	}
	if err := p.s.SendHead([]byte("{}"), nil, false, 200); err != nil {
		t.Fatal(err)
	}
	if n, err := p.s.WriteData(t.Context(), make([]byte, 1000)); n != 1000 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestStreamCreditForm(t *testing.T) {
	p := newPeer(t, RoleService)
	defer p.s.Close()
	limit := p.s.out.peerLimit.Load()
	for name, body := range map[string][]byte{
		"empty": nil, "short": make([]byte, 16), "long": make([]byte, 18), "unknown flag": append(make([]byte, 16), 2),
		"negative limit": {0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0},
	} {
		p.ctl++
		if p.deliver(FrameCredit, p.ctl, body) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if p.s.out.peerLimit.Load() != limit || p.s.out.peerAck.Load() != 0 {
		t.Error("a malformed credit changed something")
	}
	// Values only rise, and an overtaken frame is ignored even where its values are higher.
	p.ctl = controlSeq + 100
	_ = p.credit(5, 1<<20, false)
	_ = p.credit(3, 1<<10, false)
	if p.s.out.peerLimit.Load() != 1<<20 || p.s.out.peerAck.Load() != 5 {
		t.Error("a credit fell")
	}
	p.ctl = controlSeq + 50
	if p.credit(9, 1<<30, true) == nil || p.s.out.peerAck.Load() != 5 {
		t.Error("an overtaken control frame was taken")
	}
}

// What does not open changes nothing, at either end, before and after the first frame.
func TestStreamDropsRubbish(t *testing.T) {
	for _, role := range []Role{RoleApp, RoleService} {
		p := newPeer(t, role)
		other := newPeer(t, role)
		other.s.cfg.ID = fixedID("another request") // another request's keys
		forged := p.payload(FrameHead, 0, headPlaintext("{}", "forged"))
		forged[len(forged)-1] ^= 1
		unsealed := append([]byte{replyUnsealed}, "refused"...)
		feed := func() {
			for _, b := range [][]byte{
				nil, {0}, {1}, {2}, unsealed, make([]byte, 26), make([]byte, 100), append([]byte(nil), forged...),
				other.payload(FrameData, 1, []byte("x")), other.payload(FrameWhole, 0, headPlaintext("{}", "")),
				append([]byte{replySalted}, make([]byte, 200)...), make([]byte, 1<<20),
				p.payload(FrameType(8), 1, nil), p.payload(FrameType(0), 0, nil), p.payload(FrameCredit, 1, make([]byte, creditSize)),
				p.payload(FrameData, controlSeq, []byte("x")),
			} {
				if err := p.s.Deliver(b); err == nil {
					t.Errorf("%s: %d bytes of rubbish were taken", role, len(b))
				}
			}
		}
		feed()
		first := p.s.in.next
		ft, body := FrameHead, headPlaintext("{}", "")
		if role == RoleService {
			ft, body = FrameData, []byte("x")
		}
		if err := p.deliver(ft, first, body); err != nil {
			t.Fatalf("%s: after the rubbish: %v", role, err)
		}
		feed()
		if err := p.deliver(FrameEnd, first+1, []byte("{}")); err != nil || p.s.Err() != nil {
			t.Errorf("%s: %v %v", role, err, p.s.Err())
		}
		p.s.Close()
		other.s.Close()
	}
}

// One key never seals two plaintexts under one seq, and what is sent again is the same bytes (PROTOCOL.md §7).
func TestStreamNeverReusesANonce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		watch := func(room func(message) int) func(int, message) []message {
			seen := map[string]string{}
			n, dice := 0, rand.New(rand.NewPCG(1, 2))
			return func(_ int, m message) []message {
				b := m.payload[room(m):]
				if was, ok := seen[string(b[2:10])]; ok && was != string(m.payload) {
					t.Errorf("seq %x was sealed twice", b[2:10])
				}
				seen[string(b[2:10])] = string(m.payload)
				// Not every fifth: that could be the same frame of each resend, for ever.
				if n++; dice.IntN(5) == 0 && n > 1 {
					return nil
				}
				return []message{m}
			}
		}
		p.toSvc.mangle = watch(func(m message) int {
			if m.req {
				return 2 + int(m.payload[0])<<8 + int(m.payload[1])
			}
			return 0
		})
		p.toApp.mangle = watch(func(m message) int {
			if m.payload[0] == replySalted {
				return 1 + saltSize
			}
			return 0
		})
		p.exchangeIntact()
	})
}

// A worker's first ordered frame carries the salt, so do control frames before it, and none after.
func TestStreamSalt(t *testing.T) {
	var first []byte
	s := NewStream(t.Context(), StreamConfig{
		Role: RoleService, ID: NewID(), Grant: testGrant(), Limit: pairLimit, Budget: NewBudget(0), Now: time.Now,
		Publish: func(b []byte, _ FrameType, _ int) error { first = append(first, b[0]); return nil },
	})
	defer s.Close()
	s.sendCredit(false)
	_ = s.SendInform([]byte("{}"))
	s.sendCredit(false)
	_ = s.SendHead([]byte("{}"), nil, true, 200)
	s.Resend()
	if want := []byte{2, 2, 1, 1, 2, 1, 1}; string(first) != string(want) {
		t.Errorf("first bytes %v, want %v", first, want)
	}
	other := NewStream(t.Context(), s.cfg)
	defer other.Close()
	if string(other.out.salt) == string(s.out.salt) || len(other.out.salt) != saltSize {
		t.Error("two replies share their salt")
	}
}

// Goroutines that Deliver starts end with their one publish, and Deliver itself waits for nobody.
func TestStreamDeliverNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		p := newPeer(t, RoleService)
		publish := p.s.cfg.Publish
		p.s.cfg.Publish = func(b []byte, ft FrameType, status int) error {
			<-stuck
			return publish(b, ft, status)
		}
		go func() { _ = p.s.SendHead([]byte("{}"), nil, false, 200) }()
		synctest.Wait() // the writer holds the sender's mutex now
		_ = p.credit(1, 1<<20, true)
		_ = p.deliver(FrameData, 3, []byte("ahead"))
		for seq := uint64(1); seq < 4; seq++ {
			if err := p.deliver(FrameData, seq, make([]byte, 1000)); err != nil {
				t.Error(err)
			}
		}
		_ = p.deliver(FrameCancel, controlSeq+99, []byte("timeout"))
		close(stuck)
		synctest.Wait()
		p.s.Close()
	})
}

// What an app names as the reason why its request breaks off would stand in a worker's counters, log and audit, each time
// another word.
func TestStreamRequestThatBreaksOffHasOneCode(t *testing.T) {
	end, err := EncodeHead(&End{Failure: &Problem{Code: "made_up_by_the_app", Status: 500}})
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, RoleService)
	defer p.s.Close()
	if err := errors.Join(p.deliver(FrameData, 1, []byte("half")), p.deliver(FrameEnd, 2, end)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(p.s); string(b) != "half" || AsError(err).Code != CodeStreamBroken || AsError(p.s.Err()).Code != CodeStreamBroken {
		t.Errorf("%q, %v, %v", b, err, p.s.Err())
	}
}
