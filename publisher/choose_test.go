package publisher

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

func testCandidates(n int) []candidate {
	var all []candidate
	for range n {
		all = append(all, candidate{
			instance: &instance{id: relay.NewInstance(), inFlight: new(atomic.Int64)},
			said:     &relay.Announcement{Capacity: 100},
		})
	}
	return all
}

func testTag(i int) (t tag) {
	copy(t[:], fmt.Sprintf("%032d", i))
	return (&grants{}).tag(string(t[:]))
}

// One person goes to the same instance every time, many people spread evenly, and one instance less moves only those who
// were there.
func TestChooseIsStableAndEven(t *testing.T) {
	const people, instances = 10_000, 5
	all := testCandidates(instances)
	before, count := map[int]string{}, map[string]int{}
	for i := range people {
		c, ok := choose(all, testTag(i), nil)
		if again, _ := choose(append(all[2:len(all):len(all)], all[:2]...), testTag(i), nil); !ok || again.id != c.id {
			t.Fatal("the choice depends on the order")
		}
		before[i] = c.id
		count[c.id]++
	}
	for id, n := range count {
		if n < people/instances*8/10 || n > people/instances*12/10 {
			t.Errorf("%s got %d of %d", id, n, people)
		}
	}
	gone := all[0].id
	for i := range people {
		c, _ := choose(all[1:], testTag(i), nil)
		if before[i] != gone && c.id != before[i] {
			t.Fatal("somebody moved without need")
		}
	}
}

// Of the two with the highest scores the less loaded one is taken, by what it said or by what was sent to it since, if the
// difference is worth a cold start. The capacity is 100.
func TestChooseByLoad(t *testing.T) {
	all := testCandidates(4)
	first, _ := choose(all, testTag(1), nil)
	second, _ := choose(all, testTag(1), map[string]bool{first.id: true})
	first.inFlight.Add(6)
	if c, _ := choose(all, testTag(1), nil); c.id != first.id {
		t.Error("a difference of 6 in 100 is not worth a cold start")
	}
	first.inFlight.Add(1)
	if c, _ := choose(all, testTag(1), nil); c.id != second.id {
		t.Error("what was sent does not count")
	}
	second.said.InFlight = 2
	if c, _ := choose(all, testTag(1), nil); c.id != first.id {
		t.Error("what it said does not count")
	}
	second.said.Capacity = 1000
	if c, _ := choose(all, testTag(1), nil); c.id != second.id {
		t.Error("the capacity does not count")
	}
	second.said.Capacity = 100
	first.inFlight.Add(50)
	second.said.InFlight = 50
	if c, _ := choose(all, testTag(1), nil); c.id != second.id {
		t.Error("a third one was taken, where nothing is warm")
	}
}

func TestChooseByClass(t *testing.T) {
	all := testCandidates(3)
	order := []string{}
	tried := map[string]bool{}
	for range all {
		c, _ := choose(all, testTag(1), tried)
		order = append(order, c.id)
		tried[c.id] = true
	}
	if _, ok := choose(all, testTag(1), tried); ok {
		t.Error("somebody who was tried is chosen")
	}
	byID := map[string]*candidate{}
	for i := range all {
		byID[all[i].id] = &all[i]
	}
	byID[order[0]].class = 1
	if c, _ := choose(all, testTag(1), nil); c.id != order[1] {
		t.Error("a draining one is chosen beside a ready one")
	}
	byID[order[1]].class, byID[order[2]].class = 2, 2
	if c, _ := choose(all, testTag(1), nil); c.id != order[0] {
		t.Error("an avoided one is chosen beside a draining one")
	}
	byID[order[0]].class = 2
	if c, ok := choose(all, testTag(1), nil); !ok || c.id != order[0] {
		t.Error("of avoided ones the highest score is chosen")
	}
}
