package publisher

import (
	"cmp"
	"context"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// choose picks the instance for a token: of the two with the highest rendezvous scores the less loaded one, so that a
// person's grants and look-ups stay warm at two places and load still spreads (PROTOCOL.md §10). Better classes (ready
// before draining before silent) come first.
func choose(all []candidate, t tag, tried map[string]bool) (candidate, bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return tried[c.id] })
	if len(all) == 0 {
		return candidate{}, false
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(score(t, b.id), score(t, a.id)), cmp.Compare(a.id, b.id))
	})
	first := all[0]
	if len(all) > 1 && all[1].class == first.class && first.load()-all[1].load() > loadSlack {
		return all[1], true
	}
	return first, true
}

// loadSlack is by how much the other's share of its capacity must be lower to be worth a cold start there.
const loadSlack = 1.0 / 16

// load is the share of the instance's capacity in use: what it said, or what this publisher has sent it since.
func (c candidate) load() float64 {
	return float64(max(int64(c.said.InFlight), c.inFlight.Load())) / float64(c.said.Capacity)
}

// score ranks an instance for a token (rendezvous hashing). The tag is a keyed hash, so its bytes are as good as random.
func score(t tag, instance string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(instance)) // never fails
	x := h.Sum64() ^ binary.BigEndian.Uint64(t[:])
	x ^= x >> 33 // the finalizer of MurmurHash3, so that close inputs get unrelated scores
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// find returns an instance of the service that has not been tried. If none is known and wait is set it asks once and waits
// a little.
func (t *Transport) find(ctx context.Context, service string, token tag, tried map[string]bool, wait bool) (candidate, *relay.Error) {
	var expired <-chan time.Time
	for {
		known, all, changed := t.directory.candidates(service)
		if !known {
			return candidate{}, relay.Errorf(relay.CodeServiceUnknown, "service %q is not in the trust file", safeName(service))
		}
		if c, ok := choose(all, token, tried); ok {
			return c, nil
		}
		if !wait {
			return candidate{}, t.directory.none(service)
		}
		if expired == nil {
			if err := t.nc.NATS().Publish(t.subjects.Discover(service), nil); err != nil {
				return candidate{}, relay.Wrap(relay.CodeNATSUnavailable, err, "asking for workers")
			}
			timer := time.NewTimer(t.cfg.DiscoverWait)
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case <-changed:
		case <-expired:
			return candidate{}, t.directory.none(service)
		case <-ctx.Done():
			return candidate{}, canceled(ctx)
		}
	}
}

// safeName keeps what a caller wrote from filling an error text.
func safeName(s string) string {
	if relay.ValidName(s) {
		return s
	}
	return "(not a name)"
}
