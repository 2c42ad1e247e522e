package publisher

import (
	"maps"

	"github.com/obo-relay/obo-relay/relay"
)

// Stats are what a Transport knows of itself.
type Stats struct {
	InFlight, Capacity int
	GrantsCached       int
	GrantsSealed       uint64
	Services           map[string]ServiceStats
	NATS               relay.ConnStats
}

// ServiceStats are what it knows of one service.
type ServiceStats struct {
	Instances map[string]int        // by what is known of them: "ready", "draining", or "silent" for those that do not answer
	Refused   map[relay.Code]uint64 // announcements that were not believed
}

// Names of classes of instances in ServiceStats.
var classes = [...]string{"ready", "draining", "silent"}

// Stats reads the counters. It may be called at any time.
func (t *Transport) Stats() Stats {
	s := Stats{
		InFlight: t.slots.inUse(), Capacity: t.slots.size, GrantsCached: t.grants.cache.Len(), GrantsSealed: t.grants.sealed.Load(),
		Services: t.directory.stats(),
	}
	select {
	case <-t.ready:
		s.NATS = t.nc.Stats(t.slow.Load())
	default: // Run has not begun
	}
	return s
}

func (d *directory) stats() map[string]ServiceStats {
	out := map[string]ServiceStats{}
	d.mu.Lock()
	for name, s := range d.services {
		out[name] = ServiceStats{Instances: map[string]int{}, Refused: maps.Clone(s.refused)}
	}
	d.mu.Unlock()
	for name, s := range out {
		for _, class := range classes {
			s.Instances[class] = 0
		}
		_, all, _ := d.candidates(name)
		for _, c := range all {
			s.Instances[classes[c.class]]++
		}
	}
	return out
}
