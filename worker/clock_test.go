package worker

import (
	"sync"
	"testing"
	"time"
	"unsafe"
)

// steppedClock is a clock whose wall time can be stepped while its monotonic time goes on, as a machine's can.
type steppedClock struct {
	mu      sync.Mutex
	at      time.Time
	stepped time.Duration // whole seconds
}

func newSteppedClock() *steppedClock { return &steppedClock{at: time.Now()} }

func (c *steppedClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return stepWall(c.at, c.stepped)
}

// pass lets time pass, on both.
func (c *steppedClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// step moves the wall clock alone.
func (c *steppedClock) step(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stepped += d
}

// stepWall changes the wall time of t and leaves its monotonic reading. Package time has no way to do that, so this relies
// on the layout of a time with a monotonic reading: 33 bits of seconds above 30 bits of nanoseconds.
func stepWall(t time.Time, d time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall = uint64(int64(*wall) + int64(d/time.Second)<<30)
	return t
}

func TestStepWall(t *testing.T) {
	now := time.Now()
	for _, d := range []time.Duration{-time.Hour, -time.Second, 0, time.Minute} {
		stepped := stepWall(now, d)
		if got := stepped.Round(0).Sub(now.Round(0)); got != d {
			t.Errorf("the wall clock moved by %v, want %v", got, d)
		}
		if got := stepped.Sub(now); got != 0 {
			t.Errorf("the monotonic clock moved by %v", got)
		}
	}
}

func TestClockGuard(t *testing.T) {
	c := newSteppedClock()
	g := newClockGuard(c.now())
	for _, x := range []struct {
		name       string
		pass, step time.Duration
		want       time.Duration
	}{
		{"nothing", 0, 0, 0},
		{"time passes", time.Hour, 0, 0},
		{"a little ahead", 0, 4 * time.Second, 0},
		{"and again", time.Minute, 4 * time.Second, 8 * time.Second}, // drift adds up
		{"back", 0, -8 * time.Second, 0},
		{"back more", 0, -6 * time.Second, -6 * time.Second},
		{"far", time.Second, -time.Hour, -time.Hour - 6*time.Second},
	} {
		c.pass(x.pass)
		c.step(x.step)
		if got := g.step(c.now()); got != x.want {
			t.Errorf("%s: %v, want %v", x.name, got, x.want)
		}
	}
	g.accept(c.now())
	if got := g.step(c.now()); got != 0 {
		t.Errorf("after accept: %v", got)
	}
}
