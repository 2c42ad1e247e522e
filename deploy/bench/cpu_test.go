package bench

import (
	"fmt"
	"io"
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
	for b.Loop() {
		for _, callers := range []int{1, 32} {
			for _, w := range ways {
				measure(b, w.op, callers, 1000, 0)
				start := cpuTime()
				measure(b, w.op, callers, 8000, 0)
				fmt.Printf("%-20s %3d callers %8.1f µs\n", w.name, callers, float64(cpuTime()-start)/8000/1e3)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}
