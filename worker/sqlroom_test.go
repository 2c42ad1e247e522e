package worker

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/sync/semaphore"
)

// Of results with a large row only so many are read at a time; small rows pass them by, and who has waited reads on.
func TestLargeRowsWait(t *testing.T) {
	large := semaphore.NewWeighted(1)
	read := func(ctx context.Context, n int64) (*rowRoom, error) {
		room := newRowRoom(ctx, large)
		_, err := io.Copy(io.Discard, bounded{io.LimitReader(endless{}, n), room})
		return room, err
	}
	first, err := read(t.Context(), largeRow+1)
	must(t, err)
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := read(ended, 2*largeRow); !errors.Is(err, context.Canceled) {
		t.Errorf("a second large row: %v", err)
	}
	small := newRowRoom(ended, large)
	for range 4 {
		small.next()
		_, err := io.Copy(io.Discard, bounded{io.LimitReader(endless{}, largeRow-64<<10), small})
		must(t, err)
	}
	waited := make(chan error)
	go func() {
		room, err := read(t.Context(), 2*largeRow)
		room.release()
		waited <- err
	}()
	first.release()
	must(t, <-waited)
	room, err := read(t.Context(), maxRow+1)
	if err == nil || !strings.Contains(err.Error(), "a row is over 64 MiB") {
		t.Errorf("too large: %v", err)
	}
	room.release()
	if !large.TryAcquire(1) {
		t.Error("room was not given back")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
