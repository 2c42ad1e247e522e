package publisher

import (
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// slots bound the requests under way, half of them for one person at most: somebody's flood does not keep the app's other
// people out.
type slots struct {
	size, perPerson int

	mu     sync.Mutex
	taken  int
	person map[tag]int
}

func newSlots(size int) *slots {
	return &slots{size: size, perPerson: (size + 1) / 2, person: map[tag]int{}}
}

func (s *slots) inUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

// take takes a slot, which is to be released once.
func (s *slots) take(whose tag) (release func(), fault *relay.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.taken >= s.size:
		return nil, busy("%d requests are under way, the limit", s.taken)
	case s.person[whose] >= s.perPerson:
		return nil, busy("%d requests of this person are under way, half of the limit", s.person[whose])
	}
	s.taken++
	s.person[whose]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.taken--
		if s.person[whose]--; s.person[whose] == 0 {
			delete(s.person, whose)
		}
	}, nil
}

// busy is the refusal of a request for which there is no slot; one may become free at any time.
func busy(format string, n int) *relay.Error {
	e := relay.Errorf(relay.CodePublisherBusy, format, n)
	e.After = time.Second
	return e
}
