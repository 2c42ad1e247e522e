package worker

import (
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// replayLife is how long an id is remembered past its request's issued-at: the window closes after the leeway, so twice
// that covers every time at which a copy could still pass (PROTOCOL.md §3, §8).
const replayLife = 2 * relay.Leeway

// burnKey names one request under one grant.
type burnKey struct{ gid, id relay.ID }

// errRepeated: a message whose request was burned before. It gets no answer (PROTOCOL.md §8).
const errRepeated = fault("the request id was used before")

// replayCache remembers which requests were burned. Ids are grouped by the second in which they may be forgotten, so that
// forgetting is dropping whole maps.
type replayCache struct {
	capacity int

	mu      sync.Mutex
	size    int
	apps    map[string]int    // ids of each app
	grants  map[relay.ID]int  // ids under each grant, so of one person
	seconds map[int64]*burned // by the Unix second of forgetting
	oldest  int64
	newest  time.Time // by which anything was burned
}

// burned is what can be forgotten together.
type burned struct {
	ids    map[burnKey]struct{}
	apps   map[string]int
	grants map[relay.ID]int
}

func newReplayCache(capacity int) *replayCache {
	return &replayCache{capacity: capacity, apps: map[string]int{}, grants: map[relay.ID]int{}, seconds: map[int64]*burned{}}
}

// burn checks the window, checks that the id is new, and remembers it, in one atomic step. issued is the head's iat_ms.
// The error's code is one that may be answered unsealed: CodeClockSkew, CodeReplayFull, or CodeRefused for an id that is
// not new.
func (c *replayCache) burn(key burnKey, app string, issued, now time.Time) *relay.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := now.Sub(issued); d > relay.Leeway || d < -relay.Leeway {
		return relay.Errorf(relay.CodeClockSkew, "the request was issued %v from now by this machine's clock, 30 s are allowed: the clocks differ, or it was held back", -d.Round(time.Second))
	}
	if c.newest.Sub(now) > relay.Leeway { // others may have forgotten this very id while this one waited
		return relay.NewError(relay.CodeClockSkew, "the request was held up in this process for longer than 30 s")
	}
	if now.After(c.newest) {
		c.newest = now
	}
	c.forget(now)
	second := issued.Add(replayLife).Unix() + 1 // rounded up
	b := c.seconds[second]
	if b == nil {
		b = &burned{map[burnKey]struct{}{}, map[string]int{}, map[relay.ID]int{}}
		c.seconds[second] = b
	}
	if _, known := b.ids[key]; known {
		return relay.Wrap(relay.CodeRefused, errRepeated, "replay")
	}
	// What is free bounds what anybody may have, so a flood leaves room for the others: one person's ends at half of the
	// whole, one app's at two thirds.
	switch free := c.capacity - c.size; {
	case free <= 0:
		return relay.Errorf(relay.CodeReplayFull, "the replay cache holds %d ids, its limit", c.size)
	case c.grants[key.gid] > free:
		return relay.Errorf(relay.CodeReplayFull, "the replay cache holds %d ids under this person's grant, its limit while there are %d in all", c.grants[key.gid], c.size)
	case c.apps[app] > 2*free:
		return relay.Errorf(relay.CodeReplayFull, "the replay cache holds %d ids of app %s, its limit while there are %d in all", c.apps[app], app, c.size)
	}
	b.ids[key] = struct{}{}
	c.size++
	count(b.apps, c.apps, app)
	count(b.grants, c.grants, key.gid)
	return nil
}

func count[K comparable](of, all map[K]int, k K) {
	of[k]++
	all[k]++
}

func discount[K comparable](of, all map[K]int) {
	for k, n := range of {
		if all[k] -= n; all[k] == 0 {
			delete(all, k)
		}
	}
}

// forget drops what is too old to pass the window; the caller holds mu.
func (c *replayCache) forget(now time.Time) {
	current := now.Unix()
	if current == c.oldest {
		return
	}
	c.oldest = current
	for second, b := range c.seconds {
		if second < current {
			c.size -= len(b.ids)
			discount(b.apps, c.apps)
			discount(b.grants, c.grants)
			delete(c.seconds, second)
		}
	}
}

func (c *replayCache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}
