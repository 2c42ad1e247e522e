package chaos

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

const tokenHeader = relay.HeaderAccessToken

// stage is the whole path in one process: a backend, a worker that forwards to it, a broker, a publisher with its sidecar.
type stage struct {
	*relaytest.Net
	direct  string // base URL of the backend
	relayed string // base URL of the sidecar
	client  *http.Client
	token   string
	log     *transcript
}

// stageConfig changes what is not as usual.
type stageConfig struct {
	worker    func(*worker.Config)
	publisher func(*publisher.Config)
	quiet     bool // keep no log
	noWorker  bool // the test starts its own
	server    func(conf string) string
}

func newStage(t testing.TB, backend http.Handler, c stageConfig) *stage {
	t.Helper()
	upstream := httptest.NewServer(backend)
	t.Cleanup(upstream.Close)
	s := &stage{direct: upstream.URL, log: &transcript{}}
	s.Net = relaytest.NewWith(t, s.log, relaytest.Options{ServerConf: c.server, Broker: func(b *broker.Config) { b.MonitorPort = -1 }})
	if c.quiet {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if !c.noWorker {
		s.Worker(s.forward(t), c.worker)
	}
	s.open(t, c.publisher)
	return s
}

// open starts the publisher and its sidecar.
func (s *stage) open(t testing.TB, change func(*publisher.Config)) {
	t.Helper()
	transport := s.Publisher(change)
	sidecar, err := publisher.NewSidecar(publisher.SidecarConfig{Transport: transport, Service: relaytest.Service, Log: s.Log})
	relaytest.Must(t, err)
	front := httptest.NewServer(sidecar)
	t.Cleanup(front.Close)
	s.relayed = front.URL
	s.token = relaytest.Token("alice", time.Now().Add(time.Hour))
	s.client = &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 2048, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	t.Cleanup(s.client.CloseIdleConnections)
}

// forward is the worker's handler: a reverse proxy to the backend.
func (s *stage) forward(t testing.TB) http.Handler {
	t.Helper()
	u, err := url.Parse(s.direct)
	relaytest.Must(t, err)
	h, err := worker.Forward(u, s.Log)
	relaytest.Must(t, err)
	return h
}

// request is a request through the relay, with alice's token.
func (s *stage) request(ctx context.Context, t testing.TB, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.relayed+path, body)
	relaytest.Must(t, err)
	r.Header.Set(tokenHeader, s.token)
	return r
}

// transcript is a log that can be read while it is written.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *transcript) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *transcript) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// eventually waits for a condition.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(within)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
