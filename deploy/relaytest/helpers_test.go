package relaytest_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"

	"github.com/nats-io/nats.go"
)

// start starts a broker with generated permissions, and a log of everything.
func start(t *testing.T) (*relaytest.Net, *relaytest.Log) {
	t.Helper()
	t.Parallel()
	log := new(relaytest.Log)
	return relaytest.New(t, log), log
}

// alice is one token, as for all requests of a page, whichever second they are sent in.
var alice = sync.OnceValue(func() string { return relaytest.Token("alice", time.Now().Add(time.Hour)) })

// newRequest is a request with Alice's token.
func newRequest(t *testing.T, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://middleware"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Forwarded-Access-Token", alice())
	return r
}

// reply is a response read to its end.
type reply struct {
	*http.Response
	body string
	err  error // of the round trip or of reading the body
}

func do(rt http.RoundTripper, r *http.Request) reply {
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp, string(body), err}
}

func send(t *testing.T, rt http.RoundTripper, method, path string) reply {
	t.Helper()
	return do(rt, newRequest(t, method, path, nil))
}

// background sends a request and hands its reply over later.
func background(t *testing.T, rt http.RoundTripper, method, path string) <-chan reply {
	r := newRequest(t, method, path, nil)
	out := make(chan reply, 1)
	go func() { out <- do(rt, r) }()
	return out
}

func (r reply) want(t *testing.T, status int, body string) {
	t.Helper()
	if r.err != nil || r.StatusCode != status || !strings.Contains(r.body, body) {
		t.Errorf("got %s, want %d with %q", r, status, body)
	}
}

func (r reply) String() string {
	if r.Response == nil {
		return "error: " + r.err.Error()
	}
	s := r.Status + " " + r.body
	if r.err != nil {
		s += " error: " + r.err.Error()
	}
	return s
}

// wantCode wants a failure with a code, whose problem document says the parts.
func (r reply) wantCode(t *testing.T, code relay.Code, parts ...string) {
	t.Helper()
	if r.err == nil {
		t.Errorf("got %s, want %s", r, code)
		return
	}
	var e *relay.Error
	if !errors.As(r.err, &e) || !errors.Is(r.err, code) {
		t.Errorf("got %v, want %s", r.err, code)
		return
	}
	problem := e.Problem()
	for _, p := range parts {
		if !strings.Contains(problem.Detail, p) {
			t.Errorf("the detail of %s does not say %q: %s", code, p, problem.Detail)
		}
	}
}

// counter is a handler that counts the requests it gets.
type counter struct {
	n       atomic.Int64
	handler http.HandlerFunc
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.n.Add(1)
	if c.handler != nil {
		c.handler(w, r)
	}
}

func (c *counter) want(t *testing.T, n int64) {
	t.Helper()
	if got := c.n.Load(); got != n {
		t.Errorf("the handler ran %d times, want %d", got, n)
	}
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

// blocker is a handler that tells when it runs, and goes on when it is let.
type blocker struct {
	running chan string   // the name, at each request
	resume  chan struct{} // closed, or one for each request
}

func newBlocker() *blocker {
	return &blocker{running: make(chan string, 16), resume: make(chan struct{})}
}

func (b *blocker) handler(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b.running <- name
		select {
		case <-b.resume:
		case <-r.Context().Done():
			return
		}
		_, _ = io.WriteString(w, name)
	}
}

// sidecar serves a Transport as apps in other languages see it.
func sidecar(t *testing.T, tr *publisher.Transport) *httptest.Server {
	t.Helper()
	h, err := publisher.NewSidecar(publisher.SidecarConfig{Transport: tr, Service: relaytest.Service, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

// sidecarClient is a client whose idle connections end with the test.
func sidecarClient(t *testing.T) *http.Client {
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// problemOf reads a problem document.
func problemOf(t *testing.T, r reply) relay.Problem {
	t.Helper()
	if r.err != nil {
		t.Fatal(r.err)
	}
	var p relay.Problem
	if got := r.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q of %s", got, r)
	}
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatalf("%v: %s", err, r)
	}
	return p
}

// stats asks a worker for its counters, as the nats CLI does.
type stats struct {
	Outcomes map[string]uint64 `json:"outcomes"`
	Dropped  uint64            `json:"dropped"`
	InFlight int               `json:"in_flight"`
	requests int
	errors   int
}

// inspector asks workers for their counters.
type inspector struct {
	t  *testing.T
	nc *nats.Conn
}

func newInspector(t *testing.T, n *relaytest.Net) *inspector {
	return &inspector{t, n.Connect(n.Inspector, nats.CustomInboxPrefix(natsconf.InspectorInbox))}
}

func (i *inspector) stats(instance string) stats {
	i.t.Helper()
	m, err := i.nc.Request("$SRV.STATS.obo-middleware."+instance, nil, relaytest.Patience)
	if err != nil {
		i.t.Fatal(err)
	}
	var doc micro.Stats
	if err := json.Unmarshal(m.Data, &doc); err != nil {
		i.t.Fatal(err)
	}
	s := stats{requests: doc.Endpoints[0].NumRequests, errors: doc.Endpoints[0].NumErrors}
	if err := json.Unmarshal(doc.Endpoints[0].Data, &s); err != nil {
		i.t.Fatal(err)
	}
	return s
}

// wait asks until the counters are as wanted.
func (i *inspector) wait(instance, what string, ok func(stats) bool) stats {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), relaytest.Patience)
	defer cancel()
	for ctx.Err() == nil {
		if s := i.stats(instance); ok(s) {
			return s
		}
	}
	i.t.Fatalf("waited %v until %s; %+v", relaytest.Patience, what, i.stats(instance))
	return stats{}
}

// state is what a worker says of itself.
func (i *inspector) state(instance string) string {
	i.t.Helper()
	m, err := i.nc.Request("$SRV.INFO.obo-middleware."+instance, nil, relaytest.Patience)
	if err != nil {
		i.t.Fatal(err)
	}
	var doc micro.Info
	if err := json.Unmarshal(m.Data, &doc); err != nil {
		i.t.Fatal(err)
	}
	return doc.Metadata["state"]
}

// each runs f n times at once and waits.
func each(n int, f func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func natsMsg(subject string, data []byte) *nats.Msg { return &nats.Msg{Subject: subject, Data: data} }

func tomorrow() time.Time { return time.Now().Add(24 * time.Hour) }

// waitForWorkers waits until that many worker processes have announced themselves.
func waitForWorkers(t *testing.T, n *relaytest.Net, count int) {
	t.Helper()
	subjects, err := relay.NewSubjects("")
	relaytest.Must(t, err)
	tap := n.Tap(n.Root, "obo.v1.announce.>")
	seen := map[string]int{}
	twice := 0 // who has said it twice was heard by everybody the first time
	for i := 1; twice < count; i++ {
		relaytest.Must(t, tap.Conn.Publish(subjects.Discover(relaytest.Service), nil))
		m := tap.Wait(".announce.", i)
		said, err := n.Trust.VerifyAnnouncement(relaytest.Service, m.Data, time.Now())
		relaytest.Must(t, err)
		if seen[said.Instance]++; seen[said.Instance] == 2 {
			twice++
		}
	}
}

func withReplayCapacity(n int) func(*worker.Config) {
	return func(c *worker.Config) { c.ReplayCapacity = n }
}

func withHints(level relay.Hints) func(*publisher.Config) {
	return func(c *publisher.Config) { c.Hints = level }
}

func textLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
