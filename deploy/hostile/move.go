package hostile

import (
	"sync"
	"testing"
	"time"
)

// Move decides what becomes of a message: it returns what passes in its place, which may be nothing, or several messages, in
// either direction. The moves of one door run one at a time.
type Move func(*Message) []*Message

// Pass lets everything pass: what an honest broker does.
func Pass(m *Message) []*Message { return []*Message{m} }

// Drop lets nothing pass.
func Drop(*Message) []*Message { return nil }

// Repeat lets a message pass n times.
func Repeat(n int) Move {
	return func(m *Message) (out []*Message) {
		for range n {
			out = append(out, m)
		}
		return out
	}
}

// Alter changes a copy and lets that pass.
func Alter(change func(*Message)) Move {
	return func(m *Message) []*Message { return []*Message{m.Altered(change)} }
}

// Reorder holds a message back until the next one has passed.
func Reorder() Move {
	var held *Message
	return func(m *Message) []*Message {
		if held == nil {
			held = m
			return nil
		}
		out := []*Message{m, held}
		held = nil
		return out
	}
}

// When makes the move for those messages that fit, and lets the others pass.
func When(fits func(*Message) bool, move Move) Move {
	return func(m *Message) []*Message {
		if fits(m) {
			return move(m)
		}
		return []*Message{m}
	}
}

// Both makes one move, and then the other for each message that the first lets pass.
func Both(first, second Move) Move {
	return func(m *Message) (out []*Message) {
		for _, x := range first(m) {
			out = append(out, second(x)...)
		}
		return out
	}
}

// Trap holds messages back, and keeps them to be let go later, altered or not, as often as one likes.
type Trap struct {
	mu   sync.Mutex
	held []*Message
	grew chan struct{} // closed and replaced
}

// Move is the trap's: nothing passes.
func (t *Trap) Move(m *Message) []*Message {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = append(t.held, m)
	if t.grew != nil {
		close(t.grew)
		t.grew = nil
	}
	return nil
}

// Held is what is held back.
func (t *Trap) Held() []*Message {
	held, _ := t.heldNow()
	return held
}

func (t *Trap) heldNow() ([]*Message, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.grew == nil {
		t.grew = make(chan struct{})
	}
	return append([]*Message(nil), t.held...), t.grew
}

// Wait waits until n messages are held back, and returns the n-th.
func (t *Trap) Wait(tb testing.TB, n int) *Message {
	tb.Helper()
	deadline := time.After(patience)
	for {
		held, grew := t.heldNow()
		if len(held) >= n {
			return held[n-1]
		}
		select {
		case <-grew:
		case <-deadline:
			tb.Fatalf("waited %v for %d messages to be held back, %d came", patience, n, len(held))
		}
	}
}
