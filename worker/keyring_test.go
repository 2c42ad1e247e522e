package worker

import (
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// A key is announced for half of its life, and opens grants until the last one made to it has run out.
func TestKeyringRotates(t *testing.T) {
	clock := newSteppedClock()
	k, err := newKeyring(time.Hour, clock.now)
	must(t, err)
	first := k.announced()
	if rotated, err := k.rotate(); rotated || err != nil {
		t.Errorf("rotated at once: %v", err)
	}
	clock.pass(30*time.Minute - time.Second)
	if rotated, _ := k.rotate(); rotated {
		t.Error("rotated too early")
	}
	clock.pass(time.Second)
	if rotated, err := k.rotate(); !rotated || err != nil {
		t.Errorf("not rotated: %v", err)
	}
	second := k.announced()
	if second.Kid() == first.Kid() || k.get(first.Kid()) != first || k.get(second.Kid()) != second || len(k.kids()) != 2 {
		t.Error("want both, the second announced")
	}
	clock.pass(first.DestroyAt().Sub(clock.now()))
	if k.get(first.Kid()) == nil {
		t.Error("gone while a grant could live")
	}
	clock.pass(time.Second)
	if k.get(first.Kid()) != nil {
		t.Error("still opens grants")
	}
	if first.DestroyAt().Sub(first.Expiry()) != relay.MaxGrantLife+relay.Leeway {
		t.Error("not kept for the longest grant")
	}
	if rotated, err := k.rotate(); !rotated || err != nil {
		t.Errorf("not rotated again: %v", err)
	}
	for _, kid := range k.kids() {
		if kid == first.Kid() {
			t.Error("still in memory")
		}
	}
	if k.get("unknown") != nil {
		t.Error("an unknown key")
	}
}

func TestKeyringReset(t *testing.T) {
	clock := newSteppedClock()
	k, err := newKeyring(time.Hour, clock.now)
	must(t, err)
	old := k.announced().Kid()
	must(t, k.reset())
	if k.get(old) != nil || k.announced().Kid() == old || len(k.kids()) != 1 {
		t.Error("the old key lives")
	}
}
