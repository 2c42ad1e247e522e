// Package relaytest starts the real parts of obo-relay in one process, for tests and benchmarks: an embedded nats-server with
// the permissions that obo init generates, workers and publishers.
package relaytest

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// Names used by every Net.
const (
	App     = "ui"
	Service = "middleware"
)

// User is a NATS user.
type User struct{ Seed, Public string }

// NewUser makes a NATS user.
func NewUser(tb testing.TB) User {
	tb.Helper()
	kp, err := nkeys.CreateUser()
	Must(tb, err)
	seed, err := kp.Seed()
	Must(tb, err)
	public, err := kp.PublicKey()
	Must(tb, err)
	return User{string(seed), public}
}

// Net is a broker and the identities of one app and one service.
type Net struct {
	tb                           testing.TB
	Broker                       *broker.Broker
	URL                          string
	AppID, ServiceID             relay.Identity
	Trust                        *relay.Trust
	App, Service, Inspector, Sys User
	Log                          *slog.Logger
}

// Must fails the test on an error.
func Must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// New starts a broker with generated permissions; log gets everything that broker, workers and publishers log.
func New(tb testing.TB, log io.Writer) *Net {
	tb.Helper()
	n := &Net{
		tb: tb, AppID: relay.NewIdentity(), ServiceID: relay.NewIdentity(),
		App: NewUser(tb), Service: NewUser(tb), Inspector: NewUser(tb), Sys: NewUser(tb),
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	n.Trust = TrustOf(tb, n.AppID, n.ServiceID)
	n.StartBroker(-1)
	return n
}

// TrustOf binds one key to the app and one to the service.
func TrustOf(tb testing.TB, app, service relay.Identity) *relay.Trust {
	tb.Helper()
	trust, err := relay.TrustFile{
		Type:     relay.TrustTypeName,
		Apps:     map[string]relay.JWKS{App: {Keys: []relay.JWK{app.Public()}}},
		Services: map[string]relay.JWKS{Service: {Keys: []relay.JWK{service.Public()}}},
	}.Trust()
	Must(tb, err)
	return trust
}

// Start runs f until the test ends or stop is called, and fails the test on an error.
func Start(tb testing.TB, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil {
			tb.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	tb.Cleanup(stop)
	return stop
}

// StartBroker starts the broker on a port, -1 for a free one, and returns how to stop it.
func (n *Net) StartBroker(port int) (stop func()) {
	n.tb.Helper()
	text, err := natsconf.Config{
		Listen:         "127.0.0.1:4222",
		Apps:           []natsconf.App{{Name: App, NKeys: []string{n.App.Public}, Calls: []string{Service}}},
		Services:       []natsconf.Service{{Name: Service, NKeys: []string{n.Service.Public}, Apps: []string{App}}},
		InspectorNKeys: []string{n.Inspector.Public}, SystemNKeys: []string{n.Sys.Public},
	}.ServerConf()
	Must(n.tb, err)
	b, err := broker.New(broker.Config{ConfigText: text, Port: port, Log: n.Log, DrainTimeout: time.Millisecond})
	Must(n.tb, err)
	stop = Start(n.tb, b.Run)
	<-b.Ready()
	n.Broker, n.URL = b, b.ClientURL()
	return stop
}

// WorkerConfig is a working configuration of a worker.
func (n *Net) WorkerConfig(h http.Handler) worker.Config {
	return worker.Config{
		Service: Service, Identity: n.ServiceID, Trust: n.Trust, Handler: h, Log: n.Log, DrainQuiet: time.Millisecond,
		NATS: relay.ConnectConfig{URL: n.URL, NKeySeed: n.Service.Seed},
	}
}

// Worker starts a worker, with changes to its configuration.
func (n *Net) Worker(h http.Handler, change func(*worker.Config)) (w *worker.Worker, stop func()) {
	n.tb.Helper()
	c := n.WorkerConfig(h)
	if change != nil {
		change(&c)
	}
	w, err := worker.New(c)
	Must(n.tb, err)
	return w, Start(n.tb, w.Run)
}

// Publisher starts a publisher, with changes to its configuration.
func (n *Net) Publisher(change func(*publisher.Config)) *publisher.Transport {
	n.tb.Helper()
	c := publisher.Config{
		App: App, Identity: n.AppID, Trust: n.Trust, Log: n.Log,
		NATS: relay.ConnectConfig{URL: n.URL, NKeySeed: n.App.Seed},
	}
	if change != nil {
		change(&c)
	}
	t, err := publisher.New(c)
	Must(n.tb, err)
	Start(n.tb, t.Run)
	return t
}
