package worker

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// finishedExchange is one with a reply of that size that nobody has acknowledged. A request that is whole left its stream
// nothing to do.
func finishedExchange(t *testing.T, s *sealer, grant *relay.Grant, e *exchanges, size int, request relay.FrameType) *exchange {
	t.Helper()
	id := relay.NewID()
	x := e.start(exchangeKey{"ui", id}, s.quota)
	stream := relay.NewStream(t.Context(), relay.StreamConfig{
		Role: relay.RoleService, ID: id, Grant: grant, Limit: relay.MaxFrame, Budget: relay.NewBudget(1), Now: s.clock.now,
		Request: relay.HeadFrame{Type: request},
		Publish: func([]byte, relay.FrameType, int) error { s.published++; return nil },
	})
	x.admit(stream, nil)
	must(t, stream.SendHead([]byte(`{"status":200,"header":{},"length":-1}`), make([]byte, size), true, 200))
	return x
}

// An id that is known is not begun again, until it is forgotten.
func TestExchangesKnowTheirIds(t *testing.T) {
	e := newExchanges()
	key := exchangeKey{"ui", relay.NewID()}
	x := e.start(key, newQuota())
	if x == nil || e.start(key, newQuota()) != nil || e.get(key) != x {
		t.Error("begun twice")
	}
	if e.start(exchangeKey{"batch", key.id}, newQuota()) == nil {
		t.Error("another app's id is another request")
	}
	e.forget(x)
	if e.get(key) != nil || e.start(key, newQuota()) == nil {
		t.Error("not forgotten")
	}
}

// Frames that overtake the admission wait, in order, within bounds.
func TestExchangePending(t *testing.T) {
	x := newExchanges().start(exchangeKey{"ui", relay.NewID()}, newQuota())
	for range maxPendingFrames {
		must(t, x.deliver([]byte("frame")))
	}
	if err := x.deliver([]byte("one more")); !errors.Is(err, errPendingFull) {
		t.Errorf("too many: %v", err)
	}
	x = newExchanges().start(exchangeKey{"ui", relay.NewID()}, newQuota())
	large := bytes.Repeat([]byte("x"), 64<<10)
	for range maxPendingBytes / len(large) {
		must(t, x.deliver(large))
	}
	if err := x.deliver([]byte("x")); !errors.Is(err, errPendingFull) {
		t.Errorf("too large: %v", err)
	}
}

// Frames that found no room before the admission are asked for at once, and not only when the keep-alive shows the gap: the
// publisher may have used up its window, so that nothing else is to come.
func TestExchangeAsksForWhatItMissed(t *testing.T) {
	s := newSealer(t, nil)
	grant, _ := s.grant()
	for _, missed := range []bool{false, true} {
		x := newExchanges().start(exchangeKey{"ui", relay.NewID()}, newQuota())
		for range maxPendingFrames {
			must(t, x.deliver([]byte("frame")))
		}
		if missed && x.deliver([]byte("one more")) == nil {
			t.Fatal("there was room")
		}
		var sent []relay.FrameType
		stream := relay.NewStream(t.Context(), relay.StreamConfig{
			Role: relay.RoleService, ID: x.key.id, Grant: grant, Limit: relay.MaxFrame, Budget: relay.NewBudget(1), Now: s.clock.now,
			Publish: func(_ []byte, f relay.FrameType, _ int) error { sent = append(sent, f); return nil },
		})
		x.admit(stream, nil)
		if asked := slices.Contains(sent, relay.FrameCredit); asked != missed {
			t.Errorf("missed %v: sent %v", missed, sent)
		}
	}
}

// A finished reply is kept for ten seconds, or not at all if there is nothing to keep.
func TestExchangesRetention(t *testing.T) {
	for request, stays := range map[relay.FrameType]bool{relay.FrameHead: true, relay.FrameWhole: false} {
		s := newSealer(t, nil)
		grant, _ := s.grant()
		e := newExchanges()
		x := finishedExchange(t, s, grant, e, 1000, request)
		stream := x.stream
		e.finish(x, time.Minute)
		if (x.stream != nil) != stays || (x.sent == nil) != stays {
			t.Errorf("after a request in frame %d: the stream %v, the reply %v", request, x.stream, x.sent)
		}
		e.resend()
		e.tick(time.Minute + keepFinished - 1)
		if e.get(x.key) == nil || s.published < 2 {
			t.Error("forgotten too early")
		}
		e.tick(time.Minute + keepFinished)
		if e.get(x.key) != nil || stream.Err() == nil || e.kept != 0 {
			t.Error("kept too long")
		}
	}
}

// A finished reply that its publisher has, or does not want any more, is let go before its time: others may need the room.
func TestExchangesLetGoOfWhatIsOver(t *testing.T) {
	replies := map[string]func(*relay.Stream) error{
		"in one frame": func(svc *relay.Stream) error {
			return svc.SendHead([]byte(`{"status":200,"header":{},"length":-1}`), []byte("body"), true, 200)
		},
		"in several": func(svc *relay.Stream) error {
			head := svc.SendHead([]byte(`{"status":200,"header":{},"length":-1}`), nil, false, 200)
			_, data := svc.WriteData(t.Context(), make([]byte, 60<<10))
			return errors.Join(head, data, svc.SendEnd([]byte("{}"), 200))
		},
	}
	ends := map[string]func(*relay.Stream){
		"acknowledged": (*relay.Stream).Resend, // of which a credit is a part
		"canceled":     func(app *relay.Stream) { app.Cancel(relay.CodeCanceled, relay.CodeCanceled) },
	}
	for how, reply := range replies {
		for name, end := range ends {
			for _, early := range []bool{true, false} {
				s := newSealer(t, nil)
				grant, _ := s.grant()
				e := newExchanges()
				x := e.start(exchangeKey{"ui", relay.NewID()}, s.quota)
				var app *relay.Stream
				config := func(role relay.Role, publish func([]byte) error) relay.StreamConfig {
					return relay.StreamConfig{
						Role: role, ID: x.key.id, Grant: grant, Limit: relay.MaxFrame, Budget: relay.NewBudget(1), Now: s.clock.now, Request: relay.HeadFrame{Type: relay.FrameWhole},
						Publish: func(b []byte, _ relay.FrameType, _ int) error { _ = publish(bytes.Clone(b)); return nil },
					}
				}
				svc := relay.NewStream(t.Context(), config(relay.RoleService, func(b []byte) error { return app.Deliver(b) }))
				app = relay.NewStream(t.Context(), config(relay.RoleApp, func(b []byte) error { return e.deliver(x.key, b) }))
				x.admit(svc, nil)
				must(t, reply(svc))
				if early {
					end(app)
				}
				e.finish(x, 0)
				if kept := e.get(x.key) != nil; kept == early {
					t.Errorf("%s, %s before its end: %v; kept: %v", how, name, early, kept)
				}
				if !early {
					end(app)
				}
				if e.get(x.key) != nil || e.kept != 0 {
					t.Errorf("%s, %s: kept", how, name)
				}
				e.sweep(1)
				if svc.Err() == nil {
					t.Errorf("%s, %s: the stream lives on", how, name)
				}
				again := e.start(x.key, s.quota) // a copy of the request, which admission will know
				e.sweep(keepFinished)
				if e.get(x.key) != again || again == nil || e.kept != 0 {
					t.Errorf("%s, %s: it was let go twice", how, name)
				}
			}
		}
	}
}

// Many small replies that nobody acknowledges take the memory that is counted for them.
func TestExchangesCountWhatTheyKeep(t *testing.T) {
	const n, size = 2000, 1000
	s := newSealer(t, nil)
	grant, _ := s.grant()
	e := newExchanges()
	before := heapInUse()
	for range n {
		e.finish(finishedExchange(t, s, grant, e, size, relay.FrameWhole), 0)
	}
	took := heapInUse() - before
	if took > int64(e.kept) || e.kept > n*(size+sentOverhead+200) {
		t.Errorf("%d replies of %d bytes take %d bytes each, %d are counted", n, size, took/n, e.kept/n)
	}
	runtime.KeepAlive(e)
}

// A request that its handler has not read to the end, as where it is too large, leaves nothing of it in memory that is not counted.
func TestExchangesDropWhatNobodyReads(t *testing.T) {
	const n, frame = 200, 32 << 10
	s := newSealer(t, nil)
	grant, _ := s.grant()
	e := newExchanges()
	before := heapInUse()
	for range n {
		x := finishedExchange(t, s, grant, e, 1000, relay.FrameHead)
		app := relay.NewStream(t.Context(), relay.StreamConfig{
			Role: relay.RoleApp, ID: x.key.id, Grant: grant, Limit: relay.MaxFrame, Budget: relay.NewBudget(1), Now: s.clock.now,
			Publish: func(b []byte, f relay.FrameType, _ int) error {
				if f == relay.FrameData {
					must(t, x.deliver(bytes.Clone(b)))
				}
				return nil
			},
		})
		must(t, app.SendHead([]byte("{}"), nil, false, 0))
		upload := func() {
			_, err := app.WriteData(t.Context(), make([]byte, frame))
			must(t, err)
		}
		upload() // the handler reads a byte of it
		_, err := x.stream.Read(make([]byte, 1))
		must(t, err)
		e.finish(x, 0)
		upload() // on its way when the reply was
		app.Close()
	}
	if took := heapInUse() - before; took > int64(e.kept) {
		t.Errorf("%d bytes each are kept, %d are counted", took/n, e.kept/n)
	}
	runtime.KeepAlive(e)
}

// Over the bound the oldest go first.
func TestExchangesKeepWithinBounds(t *testing.T) {
	s := newSealer(t, nil)
	grant, _ := s.grant()
	e := newExchanges()
	var all []*exchange
	for range maxKept/(60<<10) + 10 {
		x := finishedExchange(t, s, grant, e, 60<<10, relay.FrameWhole)
		e.finish(x, 0)
		all = append(all, x)
		if e.kept > maxKept {
			t.Fatalf("%d bytes are kept", e.kept)
		}
	}
	if e.get(all[0].key) != nil || e.get(all[len(all)-1].key) == nil {
		t.Error("not the oldest went")
	}
	small := len(e.finished)
	if small*(60<<10+keptOverhead) < maxKept*9/10 {
		t.Errorf("only %d are kept", small)
	}
	e.sweep(keepFinished)
	if len(e.all) != 0 || e.kept != 0 {
		t.Errorf("%d left, %d bytes", len(e.all), e.kept)
	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // also what pools hold
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
