package publisher

import (
	"runtime"
	"sync"
)

// turns let a few requests be sealed and sent at a time. Whoever comes when the processors have enough to do waits here, where
// people are served in turn, and not at the connection's lock, where somebody's flood stands before everybody who came later.
type turns struct {
	mu      sync.Mutex
	free    int
	waiting map[tag][]chan struct{}
	next    []tag // of waiting, each once
}

func newTurns() *turns {
	return &turns{free: 4 * runtime.GOMAXPROCS(0), waiting: map[tag][]chan struct{}{}}
}

// take waits for a turn, which is to be passed on once.
func (t *turns) take(whose tag) {
	if ready := t.enter(whose); ready != nil {
		<-ready
	}
}

// enter takes a turn, or a place in the line: then there is a channel to wait for.
func (t *turns) enter(whose tag) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free > 0 {
		t.free--
		return nil
	}
	ready := make(chan struct{})
	if len(t.waiting[whose]) == 0 {
		t.next = append(t.next, whose)
	}
	t.waiting[whose] = append(t.waiting[whose], ready)
	return ready
}

// pass gives the turn to the person who is next, and sends that person to the end of the line.
func (t *turns) pass() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.next) == 0 {
		t.free++
		return
	}
	whose := t.next[0]
	t.next = t.next[1:]
	close(t.waiting[whose][0])
	if rest := t.waiting[whose][1:]; len(rest) > 0 {
		t.waiting[whose] = rest
		t.next = append(t.next, whose)
	} else {
		delete(t.waiting, whose)
	}
}
