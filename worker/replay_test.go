package worker

import (
	"errors"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

func newKey() burnKey { return burnKey{relay.NewID(), relay.NewID()} }

func TestReplayWindow(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	c := newReplayCache(100)
	for off, passes := range map[time.Duration]bool{
		0: true, relay.Leeway: true, -relay.Leeway: true, relay.Leeway + time.Millisecond: false, -relay.Leeway - time.Millisecond: false, time.Hour: false, -time.Hour: false,
	} {
		err := c.burn(newKey(), "ui", now.Add(off), now)
		if (err == nil) != passes || err != nil && err.Code != relay.CodeClockSkew {
			t.Errorf("issued %v from now: %v", off, err)
		}
	}
	if c.len() != 3 {
		t.Errorf("%d are remembered", c.len())
	}
}

// At no moment at which a copy could pass the window is its id forgotten, whatever the fraction of the second.
func TestReplayIsRememberedWhileItCouldPass(t *testing.T) {
	for _, issuedOff := range []time.Duration{-relay.Leeway, 0, relay.Leeway} {
		for _, fraction := range []time.Duration{0, time.Millisecond, 500 * time.Millisecond, 999 * time.Millisecond} {
			now := time.Unix(2_000_000_000, 0).Add(fraction)
			c, key, issued := newReplayCache(1000), newKey(), now.Add(issuedOff)
			if err := c.burn(key, "ui", issued, now); err != nil {
				t.Fatal(err)
			}
			for at := now; at.Before(now.Add(3 * time.Minute)); at = at.Add(250 * time.Millisecond) {
				_ = c.burn(newKey(), "ui", at, at) // lets it forget
				if err := c.burn(key, "ui", issued, at); err == nil {
					t.Fatalf("issued %v from the burn, admitted again %v after it", issuedOff, at.Sub(now))
				} else if in := at.Sub(issued); in <= relay.Leeway && !errors.Is(err, errRepeated) {
					t.Fatalf("%v after it was issued: %v", in, err)
				}
			}
		}
	}
}

// Either half makes another request.
func TestReplayKey(t *testing.T) {
	now := time.Now()
	c, key := newReplayCache(100), newKey()
	for _, k := range []burnKey{key, {key.gid, relay.NewID()}, {relay.NewID(), key.id}, {key.id, key.gid}} {
		if err := c.burn(k, "ui", now, now); err != nil {
			t.Error(err)
		}
		if err := c.burn(k, "ui", now, now); !errors.Is(err, errRepeated) || err.Code != relay.CodeRefused {
			t.Error(err)
		}
	}
}

// A full cache refuses what is new, knows what is old, and has room again when that can be forgotten.
func TestReplayFull(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	c, first := newReplayCache(4), newKey()
	for _, k := range []burnKey{first, newKey(), newKey()} {
		if err := c.burn(k, "ui", now, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.burn(newKey(), "ui", now, now); err == nil || err.Code != relay.CodeReplayFull {
		t.Error(err)
	}
	if err := c.burn(first, "ui", now, now); !errors.Is(err, errRepeated) {
		t.Errorf("what is known: %v", err)
	}
	if later := now.Add(replayLife); c.burn(newKey(), "ui", later, later) == nil {
		t.Error("forgotten too early")
	}
	later := now.Add(replayLife + 2*time.Second)
	if err := c.burn(newKey(), "ui", later, later); err != nil || c.len() != 1 {
		t.Errorf("%v, %d are remembered", err, c.len())
	}
}

func BenchmarkBurn(b *testing.B) {
	c := newReplayCache(1 << 30)
	now := time.Now()
	for b.Loop() {
		if err := c.burn(newKey(), "ui", now, now); err != nil {
			b.Fatal(err)
		}
	}
}

// One person's flood of ids leaves room for the app's others, one app's for other apps, and all of it comes back.
func TestReplayIsSharedByAppAndPerson(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	c := newReplayCache(900)
	fill := func(app string, gid func() relay.ID) (n int) {
		for {
			if err := c.burn(burnKey{gid(), relay.NewID()}, app, now, now); err != nil {
				if err.Code != relay.CodeReplayFull {
					t.Fatal(err)
				}
				return n
			}
			n++
		}
	}
	alice := relay.NewID()
	person := fill("flood", func() relay.ID { return alice })
	app := fill("flood", relay.NewID)
	other := fill("ui", relay.NewID)
	if person < 440 || person > 460 || app < 100 || person+app > 610 || other < 150 {
		t.Errorf("of 900 one person got %d, its app %d more, another app %d", person, app, other)
	}
	now = now.Add(replayLife + 2*time.Second)
	if n := fill("flood", func() relay.ID { return alice }); n != person {
		t.Errorf("afterwards %d, want %d again", n, person)
	}
	now = now.Add(replayLife + 2*time.Second)
	if err := c.burn(newKey(), "ui", now, now); err != nil || len(c.apps) != 1 || len(c.grants) != 1 || len(c.seconds) != 1 {
		t.Errorf("%v; %d apps, %d grants, %d seconds are remembered", err, len(c.apps), len(c.grants), len(c.seconds))
	}
}

// The clock was read before others had their turn: what they had forgotten by then must not pass as new.
func TestReplayIsNotJudgedByAnOldTime(t *testing.T) {
	now := time.Now()
	c, key := newReplayCache(100), newKey()
	if err := c.burn(key, "ui", now, now); err != nil {
		t.Fatal(err)
	}
	later := now.Add(replayLife + 2*time.Second)
	if err := c.burn(newKey(), "ui", later, later); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.burn(key, "ui", now, now.Add(time.Second)); err == nil || err.Code != relay.CodeClockSkew {
			t.Errorf("a copy whose time was read long before its turn: %v", err)
		}
	}
	if err := c.burn(newKey(), "ui", later, later); err != nil {
		t.Error(err)
	}
}
