package chaos

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
)

// TestKilledProcessesNeitherExecuteTwiceNorLie kills workers, publisher and broker, real processes, at random moments, while
// callers send requests that must not be executed twice. Afterwards what each caller was told is compared with what the
// backend counted.
func TestKilledProcessesNeitherExecuteTwiceNorLie(t *testing.T) { testKills(t, 1) }

// The same with a cluster of three brokers, of which one is killed at a time.
func TestKilledNodesNeitherExecuteTwiceNorLie(t *testing.T) { testKills(t, 3) }

func testKills(t *testing.T, brokers int) {
	kills := number(t, "OBO_KILLS", pick(t, 15, 200))
	count := &counter{}
	upstream := httptest.NewServer(count)
	defer upstream.Close()
	c := newCast(t, upstream.URL, brokers)
	load := &load{cast: c, count: count, stop: make(chan struct{}), told: map[string]int{}}
	subscriptions := c.settled(t)
	load.run(t)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	start := time.Now()
	for i := range kills {
		tick.Reset(200*time.Millisecond + rand.N(700*time.Millisecond))
		<-tick.C
		c.kill(t, i)
	}
	c.awaitAnswer(t)
	close(load.stop)
	load.wait.Wait()
	took := time.Since(start)
	for end := time.Now().Add(30 * time.Second); c.settled(t) != subscriptions; {
		if time.Now().After(end) {
			t.Errorf("subscriptions: %s; at the start %s", c.settled(t), subscriptions)
			break
		}
	}
	c.drain(t)
	load.judge(t)
	t.Logf("%d kills in %v; %d calls were told: %s", kills, took.Round(time.Millisecond), len(load.calls), load.summary())
	if t.Failed() {
		t.Log(c.log.String())
	}
}

// counter is the backend: it counts executions by the key that each request carries.
type counter struct {
	mu       sync.Mutex
	executed map[string]int
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // broken off: nothing was executed
	}
	key := r.Header.Get("X-Key")
	c.mu.Lock()
	if c.executed == nil {
		c.executed = map[string]int{}
	}
	c.executed[key]++
	c.mu.Unlock()
	pause := time.NewTimer(rand.N(30 * time.Millisecond)) // so that kills meet requests under way
	defer pause.Stop()
	<-pause.C
	_, _ = io.WriteString(w, "executed "+key)
}

func (c *counter) of(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.executed[key]
}

// cast is the processes.
type cast struct {
	publisher        *relaytest.Process
	brokers, workers []*relaytest.Process
	monitors         []string
	sidecar          string
	log              *transcript
	client           *http.Client
}

func newCast(t *testing.T, upstream string, brokers int) *cast {
	t.Helper()
	bin := relaytest.Build(t, t.TempDir())
	ports := relaytest.FreePorts(t, 1+3*brokers)
	clients, monitors, routes := ports[1:1+brokers], ports[1+brokers:1+2*brokers], ports[1+2*brokers:]
	dir := filepath.Join(t.TempDir(), "relay")
	made, err := setup.Init(setup.Config{
		Dir: dir, Apps: []setup.App{{Name: relaytest.App}}, Services: []string{relaytest.Service}, NATSURL: "nats://127.0.0.1:" + clients[0],
	})
	relaytest.Must(t, err)
	c := &cast{log: &transcript{}, sidecar: "http://127.0.0.1:" + ports[0]}
	c.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}, Timeout: time.Minute}
	t.Cleanup(c.client.CloseIdleConnections)
	command := func(name string, args ...string) *relaytest.Process {
		p := &relaytest.Process{Path: filepath.Join(bin, name), Args: args, Log: c.log}
		p.Start(t)
		return p
	}
	for i := range brokers {
		c.monitors = append(c.monitors, "http://127.0.0.1:"+monitors[i])
		c.brokers = append(c.brokers, command("obo-broker", "--config", nodeConf(t, made.ServerConf, clients[i], i, routes), "--monitor", monitors[i]))
	}
	nats := "nats://127.0.0.1:" + strings.Join(clients, ",nats://127.0.0.1:")
	for range 2 {
		c.workers = append(c.workers, command("obo-worker", "--nats", nats, "--kit-file", made.Side(relay.RoleService, relaytest.Service).KitFile,
			"--forward", upstream, "--user-lookup", "off"))
	}
	c.publisher = command("obo-publisher", "--nats", nats, "--kit-file", made.Side(relay.RoleApp, relaytest.App).KitFile,
		"--route", relaytest.Service+"=127.0.0.1:"+ports[0])
	c.awaitAnswer(t)
	eventually(t, 20*time.Second, "both workers are connected", func() bool { return c.connections(t) == 3 })
	return c
}

// nodeConf is the generated configuration for one of several servers; that of one alone is used as it is.
func nodeConf(t *testing.T, made, client string, i int, routes []string) string {
	t.Helper()
	if len(routes) == 1 {
		return made
	}
	text, err := os.ReadFile(made)
	relaytest.Must(t, err)
	listen := regexp.MustCompile(`(?m)^listen: .*$`)
	if !listen.Match(text) {
		t.Fatalf("no line to listen in %s", text)
	}
	text = listen.ReplaceAll(text, []byte("listen: "+strconv.Quote("127.0.0.1:"+client)))
	text = fmt.Appendf(text, "\nserver_name: node-%d\ncluster { name: test, listen: \"127.0.0.1:%s\", routes: [nats-route://127.0.0.1:%s] }\n",
		i, routes[i], strings.Join(routes, ", nats-route://127.0.0.1:"))
	file := filepath.Join(filepath.Dir(made), fmt.Sprintf("node-%d.conf", i))
	relaytest.Must(t, os.WriteFile(file, text, 0o600))
	return file
}

// kill kills a process and starts it again.
func (c *cast) kill(t *testing.T, i int) {
	t.Helper()
	all := slices.Concat(c.brokers, c.workers, []*relaytest.Process{c.publisher})
	p := all[(i+rand.IntN(2))%len(all)]
	_, _ = fmt.Fprintln(c.log, "kill -9", p.Name())
	_ = p.End(syscall.SIGKILL) // its exit status says that it was killed
	p.Start(t)
}

// awaitAnswer waits until the whole path works.
func (c *cast) awaitAnswer(t *testing.T) {
	t.Helper()
	eventually(t, 30*time.Second, "an answer through the relay", func() bool {
		status, _, _ := c.call("GET", "ping", nil)
		return status == http.StatusOK
	})
}

// call sends one request and returns what it ended with: the status, and the outcome and code of a problem.
func (c *cast) call(method, key string, body []byte) (status int, outcome relay.Outcome, code string) {
	r, err := http.NewRequest(method, c.sidecar+"/do", bytes.NewReader(body))
	if err != nil {
		return 0, relay.Unknown, err.Error()
	}
	r.Header.Set(tokenHeader, relaytest.Token("alice", time.Now().Add(time.Hour)))
	r.Header.Set("X-Key", key)
	resp, err := c.client.Do(r)
	if err != nil {
		// net/http's client itself sends a GET again when its connection broke.
		if oe, ok := errors.AsType[*net.OpError](err); ok && oe.Op == "dial" && method != "GET" {
			return 0, relay.NotDelivered, "no publisher"
		}
		return 0, relay.Unknown, "publisher gone"
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return resp.StatusCode, relay.Unknown, "reply broken off"
	case resp.StatusCode == http.StatusOK && string(text) == "executed "+key:
		return resp.StatusCode, relay.Done, ""
	}
	var p relay.Problem
	if err := json.Unmarshal(text, &p); err != nil {
		return resp.StatusCode, "", fmt.Sprintf("not a problem: %q", text)
	}
	return resp.StatusCode, p.Outcome, string(p.Code)
}

// connz is what is needed of a broker's monitoring page.
type connz struct {
	Connections []struct {
		Name          string `json:"name"`
		Subscriptions int    `json:"subscriptions"`
	} `json:"connections"`
}

// connz is the connections of all brokers.
func (c *cast) connz() (sum connz) {
	for _, monitor := range c.monitors {
		resp, err := c.client.Get(monitor + "/connz")
		if err != nil {
			continue
		}
		var page connz
		_ = json.NewDecoder(resp.Body).Decode(&page) // an incomplete page is asked for again
		_ = resp.Body.Close()
		sum.Connections = append(sum.Connections, page.Connections...)
	}
	return sum
}

func (c *cast) connections(t *testing.T) int {
	t.Helper()
	return len(c.connz().Connections)
}

// subscriptions are the numbers of subscriptions of each kind of client, as text.
func (c *cast) subscriptions(t *testing.T) string {
	t.Helper()
	var all []string
	for _, one := range c.connz().Connections {
		kind, _, _ := strings.Cut(one.Name, " ")
		all = append(all, fmt.Sprint(kind, " ", one.Subscriptions))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// settled is what subscriptions says when it has said the same for a second.
func (c *cast) settled(t *testing.T) string {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	said := c.subscriptions(t)
	for same := 0; same < 20; same++ {
		<-tick.C
		if now := c.subscriptions(t); now != said {
			said, same = now, 0
		}
	}
	return said
}

// drain ends all processes as a platform does, and wants exit status 0.
func (c *cast) drain(t *testing.T) {
	t.Helper()
	for _, together := range [][]*relaytest.Process{{c.publisher}, c.workers, c.brokers} {
		var wait sync.WaitGroup
		for _, p := range together {
			wait.Go(func() {
				if err := p.End(syscall.SIGTERM); err != nil {
					t.Errorf("%s after SIGTERM: %v", p.Name(), err)
				}
			})
		}
		wait.Wait()
	}
}

// load is callers that send requests until they are stopped, and note what they were told.
type load struct {
	cast  *cast
	count *counter
	stop  chan struct{}
	wait  sync.WaitGroup
	next  atomic.Int64

	mu    sync.Mutex
	calls []told
	told  map[string]int
}

// told is what a caller learnt about one request.
type told struct {
	method, key string
	status      int
	outcome     relay.Outcome
	code        string
}

func (l *load) run(t *testing.T) {
	t.Helper()
	large := bytes.Repeat([]byte("large"), 20_000)
	for range 12 {
		l.wait.Go(func() {
			pause := time.NewTicker(5 * time.Millisecond)
			defer pause.Stop()
			for {
				select {
				case <-l.stop:
					return
				case <-pause.C:
				}
				n := l.next.Add(1)
				key, method, body := strconv.FormatInt(n, 10), "POST", []byte("small")
				switch n % 8 {
				case 0:
					method, body = "GET", nil
				case 1, 2:
					body = large
				}
				status, outcome, code := l.cast.call(method, key, body)
				l.mu.Lock()
				l.calls = append(l.calls, told{method, key, status, outcome, code})
				l.told[fmt.Sprint(outcome, " ", code)]++
				l.mu.Unlock()
			}
		})
	}
}

// judge compares what callers were told with what happened.
func (l *load) judge(t *testing.T) {
	t.Helper()
	done := 0
	for _, c := range l.calls {
		n := l.count.of(c.key)
		ok := false
		switch c.outcome {
		case relay.Done:
			ok = n == 1 || c.method == "GET" && n >= 1
			done++
		case relay.NotDelivered, relay.NotStarted:
			ok = n == 0
		case relay.Unknown:
			ok = n <= 1 || c.method == "GET"
		}
		if !ok {
			t.Errorf("%s %s was executed %d times, its caller was told %d %s %s", c.method, c.key, n, c.status, c.outcome, c.code)
		}
	}
	if done < len(l.calls)/4 {
		t.Errorf("only %d of %d calls were answered", done, len(l.calls))
	}
}

func (l *load) summary() string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(l.told)) {
		all = append(all, fmt.Sprintf("%s %d", strings.TrimSpace(what), l.told[what]))
	}
	return strings.Join(all, ", ")
}
