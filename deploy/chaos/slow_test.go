package chaos

import (
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/hostile"
	"github.com/obo-relay/obo-relay/worker"
)

// A worker that reads nothing for a while is a slow consumer: the server drops its connection with all that waits for it.
// No stream loses a byte.
func TestSlowConsumerLosesNoByte(t *testing.T) {
	s := newStage(t, bodies(), stageConfig{noWorker: true, server: func(conf string) string { return conf + "\nwrite_deadline: \"300ms\"\n" }})
	door := s.Door()
	s.Worker(s.forward(t), func(c *worker.Config) { c.NATS.URL = door.URL })
	s.open(t, nil)
	s.upload(t, 1000, true) // the worker is there
	before := sourced.Load()
	var wait sync.WaitGroup
	for i := range int64(16) {
		wait.Go(func() { s.upload(t, 10_000_000+i, i%2 == 0) })
	}
	// By then the windows are wide, so that more is on its way than the buffers of all sockets hold.
	eventually(t, 30*time.Second, "the uploads are under way", func() bool { return sourced.Load()-before > 16_000_000 })
	read := make(chan struct{})
	door.Script(func(m *hostile.Message) []*hostile.Message { <-read; return hostile.Pass(m) })
	eventually(t, 20*time.Second, "the server finds a slow consumer", func() bool { return s.slowConsumers(t) > 0 })
	close(read)
	wait.Wait()
	if t.Failed() {
		t.Log(s.log.String())
	}
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
