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
	seconds map[int64]map[burnKey]struct{} // Unix second of forgetting → ids
	oldest  int64
}

func newReplayCache(capacity int) *replayCache {
	return &replayCache{capacity: capacity, seconds: map[int64]map[burnKey]struct{}{}}
}

// burn checks the window, checks that the id is new, and remembers it, in one atomic step. issued is the head's iat_ms.
// The error's code is one that may be answered unsealed: CodeClockSkew, CodeReplayFull, or CodeRefused for an id that is
// not new.
func (c *replayCache) burn(key burnKey, issued, now time.Time) *relay.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := now.Sub(issued); d > relay.Leeway || d < -relay.Leeway {
		return relay.Errorf(relay.CodeClockSkew, "the request was issued %v from now by this machine's clock, 30 s are allowed: the clocks differ, or it was held back", -d.Round(time.Second))
	}
	c.forget(now)
	second := issued.Add(replayLife).Unix() + 1 // rounded up
	if _, burned := c.seconds[second][key]; burned {
		return relay.Wrap(relay.CodeRefused, errRepeated, "replay")
	}
	if c.size >= c.capacity {
		return relay.Errorf(relay.CodeReplayFull, "the replay cache holds %d ids, its limit", c.size)
	}
	ids := c.seconds[second]
	if ids == nil {
		ids = map[burnKey]struct{}{}
		c.seconds[second] = ids
	}
	ids[key] = struct{}{}
	c.size++
	return nil
}

// forget drops what is too old to pass the window; the caller holds mu.
func (c *replayCache) forget(now time.Time) {
	current := now.Unix()
	if current == c.oldest {
		return
	}
	c.oldest = current
	for second, ids := range c.seconds {
		if second < current {
			c.size -= len(ids)
			delete(c.seconds, second)
		}
	}
}

func (c *replayCache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}
