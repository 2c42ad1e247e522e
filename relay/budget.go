package relay

import (
	"sync"
	"sync/atomic"
)

// Budget is what the streams of one connection share: what they may have in flight beyond their first windows, and the
// memory of the frames that were acknowledged.
type Budget struct {
	free  atomic.Int64
	large sync.Pool // of *[largeBuffer]byte
}

// ConnectionBudget is the usual budget of one NATS connection in bytes (PROTOCOL.md §7).
const ConnectionBudget = 32 << 20

const (
	largeBuffer = 1 + saltSize + frameHeader + MaxFrame + frameTag // holds any frame but one behind a grant
	largeLeast  = largeBuffer / 2                                  // a smaller one is made anew: it may be kept for long, and must not keep much more than it holds
)

// NewBudget returns a budget of n bytes.
func NewBudget(n int64) *Budget {
	b := new(Budget)
	b.free.Store(n)
	return b
}

func (b *Budget) take(n int64) bool {
	if b.free.Add(-n) >= 0 {
		return true
	}
	b.free.Add(n)
	return false
}

func (b *Budget) give(n int64) { b.free.Add(n) }

// buffer returns an empty buffer with capacity for n bytes.
func (b *Budget) buffer(n int) []byte {
	if n < largeLeast || n > largeBuffer {
		return make([]byte, 0, n)
	}
	if used, ok := b.large.Get().(*[largeBuffer]byte); ok {
		return used[:0]
	}
	return make([]byte, 0, largeBuffer)
}

// recycle takes back the memory of a payload that nobody reads any more.
func (b *Budget) recycle(payload []byte) {
	if cap(payload) == largeBuffer {
		b.large.Put((*[largeBuffer]byte)(payload[:largeBuffer]))
	}
}
