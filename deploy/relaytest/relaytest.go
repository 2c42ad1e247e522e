// Package relaytest starts the real parts of obo-relay in one process, for tests and benchmarks: an embedded nats-server with
// the permissions that obo init generates, workers and publishers.
package relaytest

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/hostile"
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
	options                      Options
	port                         int
	Broker                       *broker.Broker
	StopBroker                   func()
	URL                          string
	AppID, ServiceID             relay.Identity
	Trust                        *relay.Trust
	App, Service, Inspector, Sys User
	Root                         User // may do anything on the relay's account: whoever runs the broker
	Log                          *slog.Logger
}

// Options change what New starts.
type Options struct {
	Conf       func(*natsconf.Config)       // what the server's configuration is made from
	ServerConf func(string) string          // the configuration's text
	Broker     func(*broker.Config)         // the broker around it
	LogHandler func(io.Writer) slog.Handler // defaults to text at debug level
}

// Must fails the test on an error.
func Must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// New starts a broker with generated permissions; log gets everything that broker, workers and publishers log.
func New(tb testing.TB, log io.Writer) *Net { return NewWith(tb, log, Options{}) }

// NewWith is New with changes.
func NewWith(tb testing.TB, log io.Writer, o Options) *Net {
	tb.Helper()
	n := &Net{
		tb: tb, options: o, port: -1, AppID: relay.NewIdentity(), ServiceID: relay.NewIdentity(),
		App: NewUser(tb), Service: NewUser(tb), Inspector: NewUser(tb), Sys: NewUser(tb), Root: NewUser(tb),
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if o.LogHandler != nil {
		n.Log = slog.New(o.LogHandler(log))
	}
	n.Trust = TrustOf(tb, n.AppID, n.ServiceID)
	n.StartBroker()
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

// StartBroker starts the broker: the first time on a free port, after StopBroker on the same.
func (n *Net) StartBroker() {
	n.tb.Helper()
	conf := natsconf.Config{
		Listen:         "127.0.0.1:4222",
		Apps:           []natsconf.App{{Name: App, NKeys: []string{n.App.Public}, Calls: []string{Service}}},
		Services:       []natsconf.Service{{Name: Service, NKeys: []string{n.Service.Public}, Apps: []string{App}}},
		InspectorNKeys: []string{n.Inspector.Public}, SystemNKeys: []string{n.Sys.Public},
	}
	if n.options.Conf != nil {
		n.options.Conf(&conf)
	}
	text, err := conf.ServerConf()
	Must(n.tb, err)
	text = WithRoot(text, n.Root)
	if n.options.ServerConf != nil {
		text = n.options.ServerConf(text)
	}
	config := broker.Config{ConfigText: text, Port: n.port, Log: n.Log, DrainTimeout: time.Millisecond}
	if n.options.Broker != nil {
		n.options.Broker(&config)
	}
	b, err := broker.New(config)
	Must(n.tb, err)
	n.StopBroker = Start(n.tb, b.Run)
	<-b.Ready()
	n.Broker, n.URL = b, b.ClientURL()
	address, err := url.Parse(n.URL)
	Must(n.tb, err)
	n.port, err = strconv.Atoi(address.Port())
	Must(n.tb, err)
}

// WithRoot adds a user who may do anything on the relay's account to a generated configuration.
func WithRoot(text string, root User) string {
	// The first list of users is that of the relay's account.
	return strings.Replace(text, "users: [", "users: [\n{ nkey: "+root.Public+" }", 1)
}

// Connect connects a user to the broker without anything of the relay.
func (n *Net) Connect(u User, opts ...nats.Option) *nats.Conn {
	n.tb.Helper()
	pair, err := nkeys.FromSeed([]byte(u.Seed))
	Must(n.tb, err)
	nc, err := nats.Connect(n.URL, append([]nats.Option{
		nats.Nkey(u.Public, pair.Sign),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}), // read with LastError
	}, opts...)...)
	Must(n.tb, err)
	n.tb.Cleanup(nc.Close)
	return nc
}

// Door is where one end may enter the broker instead of at URL, to meet what whoever runs the broker does.
func (n *Net) Door() *hostile.Door {
	n.tb.Helper()
	return hostile.Open(n.tb, n.URL)
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
	t, _ := n.StoppablePublisher(change)
	return t
}

// StoppablePublisher is Publisher, with a way to stop it before the test ends.
func (n *Net) StoppablePublisher(change func(*publisher.Config)) (t *publisher.Transport, stop func()) {
	n.tb.Helper()
	c := publisher.Config{
		App: App, Identity: n.AppID, Trust: n.Trust, Log: n.Log,
		NATS:         relay.ConnectConfig{URL: n.URL, NKeySeed: n.App.Seed},
		DiscoverWait: 2 * time.Second, // a machine that runs many tests is slow
	}
	if change != nil {
		change(&c)
	}
	t, err := publisher.New(c)
	Must(n.tb, err)
	return t, Start(n.tb, t.Run)
}
