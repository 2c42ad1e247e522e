package worker

import (
	"context"
	"io"
	"math"

	"github.com/obo-relay/obo-relay/relay"
)

// A row is held in memory until it is whole, and some hold whole documents. The rows of most results are small and wait for
// nothing; of results with a large one only a few are read at a time, or one person's statements could take all memory.
// They are shared as a worker's slots are: who does not read a result on keeps its place.
const (
	maxRow       = 64 << 20 // bytes
	largeRow     = 1 << 20
	largeResults = 4
)

// rowRoom is how much of a row of one result may still be read.
type rowRoom struct {
	ctx   context.Context
	large *slots // shared by all results
	whose person
	held  bool
	left  int64
}

// newLargeSlots makes places for results with a large row. Requests under way bound the queue.
func newLargeSlots() *slots {
	s := newSlots(largeResults)
	s.queueSize = math.MaxInt
	s.setApps(2) // one app leaves room for another, whether there is one or not
	return s
}

func newRowRoom(ctx context.Context, large *slots, whose person) *rowRoom {
	return &rowRoom{ctx: ctx, large: large, whose: whose, left: maxRow}
}

// next begins another row.
func (r *rowRoom) next() { r.left = maxRow }

// take waits where the row turns out to be large. What it took stays taken until release, since a decoder keeps the memory
// that it once needed.
func (r *rowRoom) take() error {
	switch {
	case r.left <= 0:
		return relay.Errorf(relay.CodeWorkspaceFailed, "a row is over %d MiB", maxRow>>20)
	case r.held || maxRow-r.left < largeRow:
		return nil
	}
	if err := r.large.acquire(r.ctx, r.whose); err != nil {
		return err
	}
	r.held = true
	return nil
}

func (r *rowRoom) release() {
	if r.held {
		r.large.release(r.whose)
	}
}

// bounded reads what the room has room for.
type bounded struct {
	io.Reader
	room *rowRoom
}

func (b bounded) Read(p []byte) (int, error) {
	if err := b.room.take(); err != nil {
		return 0, err
	}
	n, err := b.Reader.Read(p[:min(int64(len(p)), b.room.left)])
	b.room.left -= int64(n)
	return n, err
}
