package publisher

import (
	"errors"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

// One person takes half of the slots at most, everybody together all of them.
func TestOnePersonsFloodLeavesSlots(t *testing.T) {
	s := newSlots(5)
	var releases []func()
	fill := func(whose tag) (n int) {
		for {
			release, err := s.take(whose)
			if err != nil {
				if !errors.Is(err, relay.CodePublisherBusy) {
					t.Fatal(err)
				}
				return n
			}
			n++
			releases = append(releases, release)
		}
	}
	flood, other := fill(tag{1}), fill(tag{2})
	if flood != 3 || other != 2 || fill(tag{3}) != 0 {
		t.Errorf("the flood got %d, the other %d of 5", flood, other)
	}
	for _, release := range releases {
		release()
	}
	if s.taken != 0 || len(s.person) != 0 {
		t.Errorf("%d are taken, by %d people", s.taken, len(s.person))
	}
	if n := fill(tag{1}); n != flood {
		t.Errorf("afterwards %d", n)
	}
}
