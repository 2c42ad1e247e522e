package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/hostile"
	"github.com/obo-relay/obo-relay/worker"
)

// A worker that reads nothing for a while is a slow consumer: the server drops its connection with all that waits for it.
// No stream loses a byte silently: it goes on to its end, or its caller is told that it broke off, where the machine is too
// slow to make good within the six seconds of silence that a stream may have.
func TestSlowConsumerLosesNoByte(t *testing.T) {
	s := newStage(t, bodies(), stageConfig{noWorker: true, server: func(conf string) string { return conf + "\nwrite_deadline: \"300ms\"\n" }})
	door := s.Door().Narrow()
	s.Worker(s.forward(t), func(c *worker.Config) { c.NATS.URL = door.URL })
	s.open(t, nil)
	s.upload(t, 1000, true) // the worker is there
	var noticed atomic.Bool
	var whole, told atomic.Int64 // uploads that began before the server noticed
	var wait sync.WaitGroup
	for i := range int64(32) { // more on its way than the buffers of all sockets hold
		wait.Go(func() {
			for !noticed.Load() && !t.Failed() {
				if s.put(t, 4_000_000+i) {
					whole.Add(1)
				} else {
					told.Add(1)
				}
			}
		})
	}
	for n := 0; !noticed.Load() && !t.Failed(); n++ {
		if n == 10 {
			t.Error("the server did not find a slow consumer")
			noticed.Store(true)
		}
		before := sourced.Load()
		eventually(t, 30*time.Second, "the uploads are under way", func() bool { return sourced.Load()-before > 16_000_000 })
		read := make(chan struct{})
		door.Script(func(m *hostile.Message) []*hostile.Message { <-read; return hostile.Pass(m) })
		tick := time.NewTicker(50 * time.Millisecond)
		for range 70 { // 3.5 s: not for so long that the silence itself ends the streams
			<-tick.C
			if s.slowConsumers(t) > 0 {
				noticed.Store(true)
				break
			}
		}
		tick.Stop()
		close(read)
		door.Script(hostile.Pass)
	}
	wait.Wait()
	t.Logf("%d uploads came whole, %d callers were told that theirs did not", whole.Load(), told.Load())
	if whole.Load() == 0 {
		t.Error("no upload came whole")
	}
	if t.Failed() {
		t.Log(s.log.String())
	}
}

// put uploads n bytes and reports whether they came whole; if not, its caller must have been told.
func (s *stage) put(t *testing.T, n int64) bool {
	body := newSource(n)
	r := s.request(t.Context(), t, "PUT", "/sink", io.NopCloser(body))
	r.ContentLength = n
	resp, err := s.client.Do(r)
	if err != nil {
		t.Error(err)
		return false
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	switch {
	case err == nil && resp.StatusCode == http.StatusOK && string(got) == fmt.Sprintf("%d %s <nil>", n, hexSum(body.sum)):
		return true
	case err == nil && resp.StatusCode >= 500 && resp.Header.Get("Content-Type") == "application/problem+json":
	default:
		t.Errorf("upload of %d: %d %q %v", n, resp.StatusCode, got, err)
	}
	return false
}

// slowConsumers is how many the server has dropped.
func (s *stage) slowConsumers(t *testing.T) (n int) {
	t.Helper()
	resp, err := http.Get(s.Broker.MonitorURL() + "/varz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	var page struct {
		SlowConsumers int `json:"slow_consumers"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	return page.SlowConsumers
}
