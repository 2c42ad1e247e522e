package worker

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// stats counts requests, not frames.
type stats struct {
	started  time.Time
	inFlight atomic.Int64
	dropped  atomic.Uint64 // messages and frames that changed nothing

	mu       sync.Mutex
	requests int
	errors   int
	last     string // the last error's code
	spent    time.Duration
	outcomes map[string]uint64     // by code of the table, "done" for a handler's reply
	refused  map[relay.Code]uint64 // messages that were answered unsealed
}

func newStats(now time.Time) *stats {
	return &stats{started: now, outcomes: map[string]uint64{}, refused: map[relay.Code]uint64{}}
}

// finished counts a request that has ended; code is empty for a handler's reply.
func (s *stats) finished(code relay.Code, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	s.spent += took
	if code == "" {
		s.outcomes["done"]++
		return
	}
	s.errors++
	s.last = string(code)
	s.outcomes[string(code)]++
}

// refusedUnsealed counts a message that was answered unsealed.
func (s *stats) refusedUnsealed(code relay.Code) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[code]++
}

func (s *stats) readRefused() map[relay.Code]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.refused)
}

type counters struct {
	requests, errors int
	last             string
	spent            time.Duration
	outcomes         map[string]uint64
}

func (s *stats) read() counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return counters{s.requests, s.errors, s.last, s.spent, maps.Clone(s.outcomes)}
}
