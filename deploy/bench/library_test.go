// Package bench measures the relay beside what it replaces, in the same run, so that the ratios travel between machines.
package bench

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/worker"
)

const size = 1024 // bytes each way

// quiet keeps the log from being measured.
func quiet(n *relaytest.Net) { n.Log = slog.New(slog.DiscardHandler) }

// bare returns one NATS request-reply of size bytes each way, on connections of its own.
func bare(b *testing.B, n *relaytest.Net) func(int) error {
	connect := func(u relaytest.User) *nats.Conn {
		nkey, err := nats.NkeyOptionFromSeed(seedFile(b, u))
		relaytest.Must(b, err)
		nc, err := nats.Connect(n.URL, nkey, nats.CustomInboxPrefix("obo.v1.rep.ui"))
		relaytest.Must(b, err)
		b.Cleanup(nc.Close)
		return nc
	}
	server, client := connect(n.Service), connect(n.App)
	_, err := server.Subscribe("obo.v1.req.middleware.bare.ui", func(m *nats.Msg) { _ = m.Respond(m.Data) })
	relaytest.Must(b, err)
	relaytest.Must(b, server.Flush())
	body := make([]byte, size)
	return func(int) error {
		m, err := client.Request("obo.v1.req.middleware.bare.ui", body, 10*time.Second)
		if err == nil && len(m.Data) != size {
			err = fmt.Errorf("%d bytes", len(m.Data))
		}
		return err
	}
}

// sealed returns one relayed POST of size bytes each way, RoundTripper to handler. With cold every request has a token of
// its own, so a grant is made and opened for it.
func sealed(b *testing.B, n *relaytest.Net, cold bool) func(int) error {
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }),
		func(c *worker.Config) { c.Log = n.Log })
	var t *publisher.Transport = n.Publisher(nil)
	body := make([]byte, size)
	expiry := time.Now().Add(time.Hour)
	warm := longToken("warm", expiry)
	return func(i int) error {
		token := warm
		if cold {
			token = longToken(fmt.Sprint("cold", i), expiry)
		}
		req, _ := http.NewRequest("POST", "http://middleware/echo", bytes.NewReader(body))
		req.Header.Set("X-Forwarded-Access-Token", token)
		resp, err := t.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		got, err := io.Copy(io.Discard, resp.Body)
		if err == nil && got != size {
			err = fmt.Errorf("%d bytes", got)
		}
		return err
	}
}

// longToken has the size of a real access token, about 1.2 KB.
func longToken(name string, expiry time.Time) string {
	return relaytest.Token(fmt.Sprintf("%s-%0400d", name, 0), expiry)
}

type sample struct {
	p50 time.Duration // of one operation, as its caller sees it
	per time.Duration // wall time divided by operations
}

// measure runs ops operations with that many callers.
func measure(b *testing.B, op func(int) error, callers, ops, offset int) sample {
	b.Helper()
	times := make([][]time.Duration, callers)
	var wait sync.WaitGroup
	start := time.Now()
	for c := range callers {
		wait.Go(func() {
			for i := range ops / callers {
				t := time.Now()
				if err := op(offset + c*ops + i); err != nil {
					b.Error(err)
					return
				}
				times[c] = append(times[c], time.Since(t))
			}
		})
	}
	wait.Wait()
	wall := time.Since(start)
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	return sample{all[len(all)/2], wall / time.Duration(len(all))}
}

// BenchmarkLibrary measures RoundTripper to handler against bare NATS request-reply, alternating, and reports the median
// of the rounds' ratios.
func BenchmarkLibrary(b *testing.B) {
	n := relaytest.New(b, io.Discard)
	quiet(n)
	base, warm, cold := bare(b, n), sealed(b, n, false), sealed(b, n, true)
	for _, op := range []func(int) error{base, warm, cold} {
		measure(b, op, 32, 3200, 1<<40)
	}
	for _, c := range []struct{ callers, ops int }{{1, 3000}, {32, 20000}} {
		b.Run(fmt.Sprintf("callers=%d", c.callers), func(b *testing.B) {
			var warms, colds, bareUS, warmUS []float64
			for round := 0; b.Loop(); round++ {
				pick := func(s sample) float64 {
					if c.callers == 1 {
						return float64(s.p50)
					}
					return float64(s.per)
				}
				x := pick(measure(b, base, c.callers, c.ops, 0))
				y := pick(measure(b, warm, c.callers, c.ops, 0))
				z := pick(measure(b, cold, c.callers, c.ops/10, (round+1)<<24+c.callers))
				warms, colds = append(warms, y/x), append(colds, z/x)
				bareUS, warmUS = append(bareUS, x/1e3), append(warmUS, y/1e3)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(bareUS), "bare-µs")
			b.ReportMetric(median(warmUS), "sealed-µs")
			b.ReportMetric(median(warms), "warm-x")
			b.ReportMetric(median(colds), "cold-x")
		})
	}
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// BenchmarkWarm is the sealed path alone, for profiles.
func BenchmarkWarm(b *testing.B) {
	n := relaytest.New(b, io.Discard)
	quiet(n)
	warm := sealed(b, n, false)
	measure(b, warm, 32, 3200, 0)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := warm(0); err != nil {
				b.Error(err)
			}
		}
	})
}
