package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/worker"
)

// posts are callers that send requests that must be executed exactly once, small and large, until they are stopped.
type posts struct {
	stage *stage
	count *counter
	stop  chan struct{}
	wait  sync.WaitGroup
	sent  atomic.Int64

	mu     sync.Mutex
	faults map[string]int
}

// newPosts starts callers, each of which sends a request every few milliseconds.
func newPosts(t *testing.T, s *stage, count *counter, callers int) *posts {
	t.Helper()
	p := &posts{stage: s, count: count, stop: make(chan struct{}), faults: map[string]int{}}
	large := bytes.Repeat([]byte("large"), 20_000)
	for range callers {
		p.wait.Go(func() {
			pause := time.NewTicker(5 * time.Millisecond)
			defer pause.Stop()
			for {
				select {
				case <-p.stop:
					return
				case <-pause.C:
				}
				n := p.sent.Add(1)
				body := []byte("small")
				if n%4 == 0 {
					body = large
				}
				p.send(t, strconv.FormatInt(n, 10), body)
			}
		})
	}
	return p
}

func (p *posts) send(t *testing.T, key string, body []byte) {
	r := p.stage.request(context.WithoutCancel(t.Context()), t, "POST", "/do", bytes.NewReader(body))
	r.Header.Set("X-Key", key)
	resp, err := p.stage.client.Do(r)
	fault := ""
	if err != nil {
		fault = err.Error()
	} else {
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || string(text) != "executed "+key {
			fault = fmt.Sprintf("%d %s %v", resp.StatusCode, text, err)
		}
	}
	if n := p.count.of(key); fault == "" && n != 1 {
		fault = fmt.Sprintf("executed %d times", n)
	}
	if fault != "" {
		p.mu.Lock()
		p.faults[fault]++
		p.mu.Unlock()
	}
}

// end stops the callers and reports what went wrong.
func (p *posts) end(t *testing.T) {
	t.Helper()
	close(p.stop)
	p.wait.Wait()
	for key := range maps.Clone(p.count.executed) {
		if n := p.count.of(key); n != 1 {
			t.Errorf("request %s was executed %d times", key, n)
		}
	}
	for fault, n := range p.faults {
		t.Errorf("%d times: %s", n, fault)
	}
	t.Logf("%d requests, %d kinds of fault", len(p.count.executed), len(p.faults))
}

// progress waits for so many more requests to have been executed.
func (p *posts) progress(t *testing.T, n int) {
	t.Helper()
	size := func() int {
		p.count.mu.Lock()
		defer p.count.mu.Unlock()
		return len(p.count.executed)
	}
	target := size() + n
	eventually(t, 30*time.Second, fmt.Sprintf("%d more requests", n), func() bool { return size() >= target })
}

func TestRollingRestartOfWorkersLosesNothing(t *testing.T) {
	count := &counter{}
	s := newStage(t, count, stageConfig{noWorker: true})
	quiet := func(c *worker.Config) { c.DrainQuiet = 300 * time.Millisecond }
	var stops []func()
	start := func() {
		_, stop := s.Worker(s.forward(t), quiet)
		stops = append(stops, stop)
	}
	for range 3 {
		start()
	}
	load := newPosts(t, s, count, 16)
	load.progress(t, 200)
	for i := range 3 * pick(t, 1, 5) {
		stops[i]() // returns when it has drained
		load.progress(t, 50)
		start()
		load.progress(t, 100)
	}
	load.end(t)
	if t.Failed() {
		t.Log(s.log.String())
	}
}

// node is one server of a cluster.
type node struct {
	client, route string // ports
	broker        *broker.Broker
	stop          func()
}

// cluster is three servers with the permissions that obo init generates.
type cluster struct {
	net   *relaytest.Net
	nodes []*node
}

func newCluster(t *testing.T, n *relaytest.Net) *cluster {
	t.Helper()
	c := &cluster{net: n}
	ports := relaytest.FreePorts(t, 6)
	for i := range 3 {
		c.nodes = append(c.nodes, &node{client: ports[i], route: ports[3+i]})
	}
	for i := range c.nodes {
		c.start(t, i)
	}
	c.awaitRoutes(t)
	return c
}

func (c *cluster) url() string {
	var all []string
	for _, n := range c.nodes {
		all = append(all, "nats://127.0.0.1:"+n.client)
	}
	return strings.Join(all, ",")
}

func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	text, err := natsconf.Config{
		Listen:         "127.0.0.1:" + c.nodes[i].client,
		Apps:           []natsconf.App{{Name: relaytest.App, NKeys: []string{c.net.App.Public}, Calls: []string{relaytest.Service}}},
		Services:       []natsconf.Service{{Name: relaytest.Service, NKeys: []string{c.net.Service.Public}, Apps: []string{relaytest.App}}},
		InspectorNKeys: []string{c.net.Inspector.Public}, SystemNKeys: []string{c.net.Sys.Public},
	}.ServerConf()
	relaytest.Must(t, err)
	var routes []string
	for _, n := range c.nodes {
		routes = append(routes, strconv.Quote("nats-route://127.0.0.1:"+n.route))
	}
	text += fmt.Sprintf("\nserver_name: node-%d\ncluster { name: test, listen: \"127.0.0.1:%s\", routes: [%s] }\n", i, c.nodes[i].route, strings.Join(routes, ", "))
	b, err := broker.New(broker.Config{ConfigText: text, MonitorPort: -1, Log: c.net.Log, DrainTimeout: 200 * time.Millisecond})
	relaytest.Must(t, err)
	c.nodes[i].broker, c.nodes[i].stop = b, relaytest.Start(t, b.Run)
	<-b.Ready()
}

// awaitRoutes waits until every node is connected to both others.
func (c *cluster) awaitRoutes(t *testing.T) {
	t.Helper()
	eventually(t, 20*time.Second, "routes between all nodes", func() bool {
		for _, n := range c.nodes {
			resp, err := http.Get(n.broker.MonitorURL() + "/routez")
			if err != nil {
				return false
			}
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			for i := range c.nodes {
				if name := fmt.Sprintf(`"node-%d"`, i); !bytes.Contains(text, []byte(name)) {
					return false
				}
			}
		}
		return true
	})
}

func TestRollingRestartOfAClusterLosesNothing(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	count := &counter{}
	upstream := httptest.NewServer(count)
	t.Cleanup(upstream.Close)
	s := &stage{direct: upstream.URL, log: &transcript{}}
	s.Net = relaytest.New(t, s.log) // its broker is not used
	c := newCluster(t, s.Net)
	s.URL = c.url()
	for range 2 {
		s.Worker(s.forward(t), nil)
	}
	s.open(t, func(p *publisher.Config) { p.ConnectWait = 10 * time.Second })
	load := newPosts(t, s, count, 16)
	load.progress(t, 200)
	for i := range 3 * pick(t, 1, 5) {
		c.nodes[i%3].stop()
		load.progress(t, 50)
		c.start(t, i%3)
		c.awaitRoutes(t)
		load.progress(t, 100)
	}
	load.end(t)
	if t.Failed() {
		log := strings.Split(s.log.String(), "\n")
		t.Log(strings.Join(slices.DeleteFunc(log, func(l string) bool { return strings.Contains(l, "msg=request ") }), "\n"))
	}
}
