//go:build unix

package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCPU is the processor time that one request takes in all parts together, which other load on the machine
// disturbs less than rates.
func BenchmarkCPU(b *testing.B) {
	f := newField(b)
	n := relaytest.New(b, io.Discard)
	quiet(n)
	type way struct {
		name string
		op   func(int) error
	}
	ways := []way{{"bare NATS", bare(b, n)}, {"library, warm", sealed(b, n, false)}}
	for _, p := range f.paths {
		ways = append(ways, way{p.name, func(int) error { return f.echo(p.url, size) }})
	}
	least := map[string]float64{}
	for b.Loop() {
		for _, callers := range []int{1, 32} {
			for _, w := range ways {
				start := cpuTime()
				measure(b, w.op, callers, 960, 0)
				took := float64(cpuTime()-start) / 960 / 1e3
				key := fmt.Sprintf("%-20s %3d callers", w.name, callers)
				if was, ok := least[key]; !ok || took < was {
					least[key] = took
				}
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(least)) {
		fmt.Printf("%s %8.1f µs\n", key, least[key])
	}
	b.ReportMetric(0, "ns/op")
}
