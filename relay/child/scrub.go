package child

import (
	"context"
	"runtime/debug"
	"time"
)

// scrubEvery is how long free memory keeps what was in it, at most.
const scrubEvery = time.Minute

// Scrub gives free memory back to the system now and then until ctx ends, and so empties it: Go leaves what was in it there
// until it is used for something else, and in an idle process that is never.
func Scrub(ctx context.Context) {
	tick := time.NewTicker(scrubEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			debug.FreeOSMemory()
		}
	}
}
