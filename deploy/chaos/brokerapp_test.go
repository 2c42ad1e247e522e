package chaos

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/brokerapp"
	"github.com/obo-relay/obo-relay/worker"
)

// appStage is a stage whose broker is an app: publisher and worker reach it through the sandbox's front proxy.
type appStage struct {
	*relaytest.Net
	workspace *sandbox.Workspace
	relayed   string // base URL of the sidecar
	token     string
	log       *transcript

	mu       sync.Mutex
	sockets  map[*http.Request]context.CancelFunc // at the front proxy
	cutAt    time.Time                            // zero when publisher and worker are both back
	outage   time.Duration                        // the longest
	failures []string
}

// cutting lets the test say when the front proxy cuts the WebSockets, so that it needs no time.
func (a *appStage) cutting(front http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		a.mu.Lock()
		a.sockets[r] = cancel
		if len(a.sockets) == 2 && !a.cutAt.IsZero() {
			a.outage, a.cutAt = max(a.outage, time.Since(a.cutAt)), time.Time{}
		}
		a.mu.Unlock()
		front.ServeHTTP(w, r.WithContext(ctx))
		a.mu.Lock()
		delete(a.sockets, r)
		a.mu.Unlock()
	})
}

// cut ends every WebSocket.
func (a *appStage) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cutAt.IsZero() {
		a.cutAt = time.Now()
	}
	for r, cancel := range a.sockets {
		cancel()
		delete(a.sockets, r)
	}
}

// failed notes what did not come through.
func (a *appStage) failed(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures = append(a.failures, fmt.Sprintf(format, args...))
}

func newAppStage(t *testing.T, backend http.Handler) *appStage {
	t.Helper()
	a := &appStage{log: &transcript{}, sockets: map[*http.Request]context.CancelFunc{}}
	a.Net = relaytest.NewWith(t, a.log, relaytest.Options{Broker: func(b *broker.Config) { b.App = &broker.App{Listen: "127.0.0.1:0"} }})
	var err error
	a.workspace, err = sandbox.New(sandbox.Config{
		Users: []sandbox.User{{UserName: "alice@example.com"}},
		Apps:  []sandbox.App{{Name: "ui", UserAuthorization: true}, {Name: "middleware"}, {Name: "obo-broker", CanUse: []string{"ui", "middleware"}}},
	})
	relaytest.Must(t, err)
	api, err := a.workspace.Listen("127.0.0.1:0")
	relaytest.Must(t, err)
	t.Cleanup(func() { _ = api.Close() })
	at := strings.TrimSuffix(strings.Replace(a.Broker.WebSocketURL(), "ws://", "http://", 1), brokerapp.Path)
	front, err := sandbox.NewFront(sandbox.FrontConfig{Workspace: a.workspace, App: "obo-broker", Upstream: at, BearerOnlyAPI: true})
	relaytest.Must(t, err)
	door := httptest.NewServer(a.cutting(front))
	t.Cleanup(door.Close)
	t.Cleanup(a.cut)
	relaytest.Must(t, front.SetURL(door.URL))
	a.Worker(backend, func(c *worker.Config) { c.NATS = a.nats("middleware", c.NATS) })
	transport := a.Publisher(func(c *publisher.Config) { c.NATS = a.nats("ui", c.NATS) })
	sidecar, err := publisher.NewSidecar(publisher.SidecarConfig{Transport: transport, Service: relaytest.Service, Log: a.Log})
	relaytest.Must(t, err)
	server := httptest.NewServer(sidecar)
	t.Cleanup(server.Close)
	a.relayed = server.URL
	a.token, err = a.workspace.Token("alice@example.com", sandbox.TokenOptions{App: "ui"})
	relaytest.Must(t, err)
	return a
}

// nats leads to the broker app, as the service principal of an app.
func (a *appStage) nats(app string, c relay.ConnectConfig) relay.ConnectConfig {
	sp, _ := a.workspace.App(app)
	c.URL = "app:obo-broker"
	c.Principal = brokerapp.Principal{Workspace: a.workspace.URL(), ClientID: sp.ClientID, Secret: sp.ClientSecret}
	return c
}

func (a *appStage) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, a.relayed+path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set(tokenHeader, a.token)
	return (&http.Transport{DisableKeepAlives: true}).RoundTrip(r)
}

// The platform may cut a WebSocket now and then, after 120 s for example. Nothing is lost by it and nothing is done twice:
// small requests, bodies of some windows, and a stream that outlives many connections.
//
// That is promised for an outage that is shorter than the relay's patience, 2 s for a new request and 6 s for one under way.
// On a machine so slow that one lasts longer, a request may fail, but still none is executed twice.
func TestWebSocketsAreCut(t *testing.T) {
	t.Parallel()
	cuts := pick(t, 8, 200)
	const between = 20 // requests from one cut to the next
	var handled atomic.Int64
	over := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		handled.Add(1)
		_, _ = io.Copy(w, r.Body) // an error breaks the response, which the client sees
	})
	mux.HandleFunc("GET /ticks", func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
			case <-over:
				fmt.Fprintln(w, "end", i)
				return
			case <-r.Context().Done():
				return
			}
			fmt.Fprintln(w, i)
			_ = http.NewResponseController(w).Flush() // the next write fails too
		}
	})
	a := newAppStage(t, mux)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(cuts)*10*time.Second)
	defer cancel()
	var all, stream sync.WaitGroup
	stream.Go(func() { a.ticks(ctx) })
	var begun, ended atomic.Int64
	for range 4 {
		all.Go(func() {
			for begun.Add(1) <= int64(cuts*between) {
				a.echo(ctx)
				if ended.Add(1)%between == 0 {
					a.cut()
				}
			}
		})
	}
	all.Wait()
	close(over)
	stream.Wait()
	if n := handled.Load(); n > ended.Load() {
		t.Errorf("%d requests were sent and %d executed", ended.Load(), n)
	}
	complain := t.Errorf
	if a.outage > time.Second {
		complain = t.Logf
		t.Logf("THIS MACHINE IS SLOW: %v from a cut to the new connections; failures are not counted", a.outage)
	}
	for _, f := range a.failures {
		complain("%s", f)
	}
	if n := handled.Load(); n < ended.Load() {
		complain("%d requests were sent and %d executed", ended.Load(), n)
	}
	seen := strings.Count(a.log.String(), "disconnected from NATS")
	if seen < cuts {
		complain("publisher and worker lost their connections %d times, want at least %d", seen, cuts)
	}
	t.Logf("%d requests and a stream through %d cuts, which publisher and worker felt %d times; both were back after %v at most", ended.Load(), cuts, seen, a.outage.Round(time.Millisecond))
}

// echo sends a body and wants it back.
func (a *appStage) echo(ctx context.Context) {
	body := bytes.Repeat([]byte{byte(rand.Uint32())}, rand.IntN(150<<10))
	response, err := a.do(ctx, http.MethodPost, "/echo", bytes.NewReader(body))
	if err != nil {
		a.failed("%v", err)
		return
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || !bytes.Equal(got, body) {
		a.failed("%s, %v: %d bytes came back of %d: %.400q", response.Status, err, len(got), len(body), got)
	}
}

// ticks reads one long stream and wants every line of it, in order.
func (a *appStage) ticks(ctx context.Context) {
	response, err := a.do(ctx, http.MethodGet, "/ticks", nil)
	if err != nil {
		a.failed("%v", err)
		return
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	next := 0
	for lines.Scan() {
		switch lines.Text() {
		case fmt.Sprint(next):
			next++
		case fmt.Sprint("end ", next):
			return
		default:
			a.failed("line %q after %d", lines.Text(), next-1)
			return
		}
	}
	a.failed("the stream broke off after %d lines: %v", next, lines.Err())
}
