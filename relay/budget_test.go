package relay

import (
	"bytes"
	"io"
	"testing"
	"time"
	"unsafe"
)

// What is kept for a peer that acknowledges nothing is bounded by the bytes in it, so no frame may take much more memory.
func TestKeptFramesTakeWhatTheyHold(t *testing.T) {
	budget := NewBudget(1)
	budget.recycle(budget.buffer(largeBuffer)) // one that could be used again
	for n := 1; n <= largeBuffer; n += 1 + n/16 {
		b := budget.buffer(n)
		if len(b) != 0 || cap(b) < n || cap(b) > 2*n+1 {
			t.Errorf("%d bytes take %d", n, cap(b))
		}
		budget.recycle(b)
	}
	s := NewStream(t.Context(), StreamConfig{
		Role: RoleService, ID: NewID(), Grant: &Grant{keys: newKeySource(make([]byte, 32), NewID())}, Limit: MaxFrame, Budget: budget, Now: time.Now,
		Publish: func([]byte, FrameType, int) error { return nil },
	})
	defer s.Close()
	const body = 40 << 10
	if err := s.SendHead([]byte("{}"), make([]byte, body), true, 200); err != nil {
		t.Fatal(err)
	}
	if kept := s.Unacknowledged(); kept < cap(s.out.kept[0].payload) {
		t.Errorf("says that it keeps %d bytes, and keeps %d", kept, cap(s.out.kept[0].payload))
	}
}

// Credit counts bytes, so what waits for the reader is bounded only if a frame of one byte takes little more than that.
func TestWaitingFramesTakeWhatTheyHold(t *testing.T) {
	p := newPeer(t, RoleService)
	defer p.s.Close()
	body := testBody("small frames", firstWindow)
	for i := range body {
		if err := p.deliver(FrameData, uint64(1+i), body[i:i+1]); err != nil {
			t.Fatal(err)
		}
	}
	waiting := cap(p.s.in.queue) * int(unsafe.Sizeof(Frame{}))
	for _, f := range p.s.in.queue {
		waiting += cap(f.Body)
	}
	if waiting > 4*firstWindow {
		t.Errorf("%d bytes that wait for the reader take %d", firstWindow, waiting)
	}
	if err := p.deliver(FrameEnd, uint64(1+len(body)), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(p.s); err != nil || !bytes.Equal(got, body) {
		t.Errorf("read %d bytes of %d: %v", len(got), len(body), err)
	}
}
