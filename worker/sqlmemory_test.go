package worker_test

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/worker"
)

// A million rows cross with flat memory, and so do many in each other form.
func TestSQLMillionRows(t *testing.T) {
	const most = 64 << 20
	for name, c := range map[string]struct {
		accept, columns string
		inline          bool
		rows, more      int // more lines than rows; -1: there are no lines
	}{
		"ndjson": {"", "*", false, 1_000_000, 0}, "csv": {"text/csv", "*", false, 200_000, 1},
		"inline": {"", "id", true, 200_000, 0}, "arrow": {arrowType, "*", false, 200_000, -1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, func(ws *sandbox.Config, c2 *worker.RoutesConfig) { ws.ChunkRows, c2.Inline = 20_000, c.inline })
			heap := func() int64 {
				runtime.GC()
				debug.FreeOSMemory()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return int64(m.HeapInuse + m.StackInuse)
			}
			base, peak := heap(), int64(0)
			start := time.Now()
			resp, err := s.client.Do(s.request("POST", "/.obo/sql", s.token(alice, sandbox.TokenOptions{}), statement(fmt.Sprintf("SELECT %s FROM range(%d)", c.columns, c.rows)), "Accept", c.accept))
			relaytest.Must(t, err)
			defer resp.Body.Close()
			buffer, lines, total, next := make([]byte, 64<<10), 0, 0, 0
			for {
				n, err := resp.Body.Read(buffer)
				lines, total = lines+strings.Count(string(buffer[:n]), "\n"), total+n
				if total >= next {
					next = total + 4<<20
					peak = max(peak, heap()-base)
				}
				if err == io.EOF {
					break
				}
				relaytest.Must(t, err)
			}
			took := time.Since(start)
			if c.more >= 0 && lines != c.rows+c.more {
				t.Errorf("%d lines, want %d", lines, c.rows+c.more)
			}
			if peak > most {
				t.Errorf("the heap grew by %d MiB", peak>>20)
			}
			t.Logf("%s: %.1f MB, heap grew by %.1f MiB, %.0f rows/s", name, float64(total)/1e6, float64(peak)/(1<<20), float64(c.rows)/took.Seconds())
		})
	}
}
