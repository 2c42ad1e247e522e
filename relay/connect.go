package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"golang.org/x/time/rate"

	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

// ConnectConfig says how to reach NATS. Publisher and worker connect in the same way.
type ConnectConfig struct {
	URL       string // one or more, separated by commas; nats, tls, ws and wss. Or one broker app: app:NAME or https://HOST
	Name      string // shown by nats server report connections
	NKeySeed  string // seed of the NATS user (SU…)
	CredsFile string // instead of NKeySeed: a JWT user's file, read at each connect, so that it may be replaced
	Creds     string // its content
	CAFile    string // certificate authority of the server, PEM, read at each connect; default: the system's
	CA        string // its content
	CertFile  string // client certificate for mutual TLS, PEM, read at each connect
	Cert      string // its content
	KeyFile   string // the certificate's private key, PEM, read at each connect
	Key       string // its content
	TLSFirst  bool   // TLS before the first NATS byte (handshake_first)
	OneServer bool   // look, once connected, whether servers answer that do not know of each other, and log that

	// Principal opens the front proxy of a broker app, and is used for nothing else.
	Principal brokerapp.Principal

	Log *slog.Logger // Defaults to none
	// OnUp is called after each time the connection is made, first or again; OnDown after it broke. Default to nothing.
	OnUp, OnDown func()
	// OnDenied is called with the error text when the server denies a publish or subscription. Defaults to nothing.
	OnDenied func(error)
	// OnAllowed is called with the subject of a subscription of Conn that the server denied and does no longer. It must not use
	// the connection. Defaults to nothing.
	OnAllowed func(subject string)
	// OnSlow is called when messages were dropped because this process was too slow. Defaults to nothing.
	OnSlow func()

	onClosed func(*nats.Conn) // called when the connection is over for good
}

// Format hides the seed, and passwords in the URL, from every fmt verb.
func (c ConnectConfig) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprint(s, "[NATS "+redactURLs(c.URL)+"]")
}

// withDefaults fills in what is left out: callbacks that do nothing and a log that discards.
func (c ConnectConfig) withDefaults() ConnectConfig {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.OnUp == nil {
		c.OnUp = func() {}
	}
	if c.OnDown == nil {
		c.OnDown = func() {}
	}
	if c.OnDenied == nil {
		c.OnDenied = func(error) {}
	}
	if c.OnAllowed == nil {
		c.OnAllowed = func(string) {}
	}
	if c.OnSlow == nil {
		c.OnSlow = func() {}
	}
	if c.onClosed == nil {
		c.onClosed = func(*nats.Conn) {}
	}
	return c
}

// Validate reports all faults at once.
func (c ConnectConfig) Validate() error {
	var faults []error
	if c.URL == "" {
		faults = append(faults, errors.New("no NATS URL: set --nats or OBO_NATS, for example nats://127.0.0.1:4222"))
	}
	if brokerapp.Is(c.URL) {
		faults = append(faults, c.validateApp())
	}
	faults = append(faults, checkURLs(c.URL)...)
	if count(c.NKeySeed, c.CredsFile, c.Creds) > 1 {
		faults = append(faults, errors.New("an nkey, a creds file and its content: give only one of them for the NATS user"))
	}
	if c.NKeySeed != "" {
		if kp, err := nkeys.FromSeed([]byte(c.NKeySeed)); err != nil {
			faults = append(faults, errors.New("the nkey is not a seed of a NATS user (want SU…, as obo init writes it)"))
		} else {
			kp.Wipe()
		}
	}
	if certs, keys := count(c.CertFile, c.Cert), count(c.KeyFile, c.Key); certs != keys || certs > 1 {
		faults = append(faults, errors.New("a client certificate needs both the certificate and its key, each once"))
	}
	if count(c.CAFile, c.CA) > 1 {
		faults = append(faults, errors.New("the certificate authority is given as a file and as its content: use one"))
	}
	return errors.Join(faults...)
}

// validateApp reports what is wrong with a way through a broker app.
func (c ConnectConfig) validateApp() error {
	faults := []error{brokerapp.CheckAddress(c.URL), c.Principal.Validate()}
	if strings.Contains(c.URL, ",") {
		faults[0] = errors.New("a broker app must be the only NATS server: there is one of it")
	}
	if c.CertFile+c.Cert != "" || c.TLSFirst {
		faults = append(faults, errors.New("a broker app is reached through the platform's proxy, which ends TLS: leave out the client certificate and TLS first"))
	}
	if c.CA != "" {
		faults = append(faults, errors.New("for a broker app name the certificate authority as a file (--nats-ca-file)"))
	}
	return errors.Join(faults...)
}

// Connect starts a connection and returns at once, also when no server can be reached yet: it keeps trying, with backoff
// and jitter, until closed. Publishes while it is away fail instead of being sent later (PROTOCOL.md §4).
func Connect(c ConnectConfig) (*nats.Conn, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	url, door := c.URL, (*brokerapp.Door)(nil)
	if brokerapp.Is(c.URL) {
		var err error
		if door, err = c.Door(); err != nil {
			return nil, fmt.Errorf("NATS %s: %w", redactURLs(c.URL), err)
		}
		url = "nats://" + door.Name() // for people: it is the door that is dialed
	}
	watched, end := context.WithCancel(context.Background())
	if c.OneServer && door == nil { // a door looks by itself, and goes on doing it
		c.OnUp = c.lookForServers(watched, c.OnUp)
	}
	opts, err := c.options(door)
	if err != nil {
		end()
		return nil, err
	}
	nc, err := nats.Connect(url, append(opts, nats.ClosedHandler(func(nc *nats.Conn) { end(); c.onClosed(nc) }))...)
	if err != nil {
		end()
		return nil, fmt.Errorf("NATS %s: %w", redactURLs(c.URL), err)
	}
	if door != nil {
		go door.Watch(watched, nc.ConnectedServerId)
	}
	return nc, nil
}

// Door is the way to a broker app, for a URL that names one.
func (c ConnectConfig) Door() (*brokerapp.Door, error) {
	client, err := brokerapp.NewClient(c.CAFile)
	if err != nil {
		return nil, err
	}
	tokens, err := c.Principal.Tokens(client)
	if err != nil {
		return nil, err
	}
	return brokerapp.New(brokerapp.Config{
		Address: c.URL, Workspace: c.Principal.Workspace, Tokens: tokens, CAFile: c.CAFile, Log: c.Log,
	})
}

func (c ConnectConfig) options(door *brokerapp.Door) ([]nats.Option, error) {
	up := func(nc *nats.Conn) {
		c.Log.Info("connected to NATS", "url", redactURLs(nc.ConnectedUrl()), "server", nc.ConnectedServerName(), "max_payload", nc.MaxPayload())
		if nc.MaxPayload() < MinMaxPayload {
			c.Log.Error("the NATS server's max_payload is too small: raise it to at least 65536, 1048576 is better", "max_payload", nc.MaxPayload())
		}
		c.OnUp()
	}
	denials, told := rate.NewLimiter(1, 20), map[string]time.Time{} // lines about them
	tellFailure := c.tellFailures(door != nil)
	opts := []nats.Option{
		nats.Name(c.Name),
		nats.RetryOnFailedConnect(true),
		nats.IgnoreAuthErrorAbort(),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1), // never send later what the caller was told has failed
		nats.CustomReconnectDelay(reconnectDelay),
		nats.PermissionErrOnSubscribe(true),
		nats.PingInterval(10 * time.Second), // a dead connection behind a proxy is noticed in 20 s
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(20 * time.Second), // the same of one that takes no more: nats.go's write holds the lock that its pings need
		nats.Timeout(5 * time.Second),
		nats.ConnectHandler(up),
		nats.ReconnectHandler(up),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if nc.IsClosed() {
				return // on purpose
			}
			c.Log.Warn("disconnected from NATS, reconnecting", append([]any{"error", err}, remedyAttr(c.userRemedy(err))...)...)
			c.OnDown()
		}),
		nats.ReconnectErrHandler(tellFailure),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) {
			switch {
			case errors.Is(err, nats.ErrPermissionViolation):
				c.OnDenied(err)
				if tellAgain(told, err.Error()) && denials.Allow() {
					told[err.Error()] = time.Now()
					c.Log.Error("the NATS server denies this user a subject: compare its permissions with what obo init generates", "error", err)
				}
			case errors.Is(err, nats.ErrSlowConsumer):
				c.Log.Warn("NATS messages were dropped because this process was too slow; they are asked for again", "error", err)
				c.OnSlow()
			case c.userRemedy(err) != "": // of a later connection; of the first nats.go calls the handler above
				tellFailure(nc, err)
			default:
				c.Log.Error("NATS", "error", err)
			}
		}),
	}
	if door != nil {
		opts = append(opts, nats.SetCustomDialer(brokerapp.Dialer{Door: door}), nats.SkipHostLookup(), nats.IgnoreDiscoveredServers())
	}
	return c.secure(opts, door != nil)
}

// lookForServers looks after the first connection.
func (c ConnectConfig) lookForServers(ctx context.Context, up func()) func() {
	var once sync.Once
	return func() {
		up()
		once.Do(func() {
			go func() {
				if err := CheckBrokers(ctx, c); err != nil {
					c.Log.Error(err.Error())
				}
			}()
		})
	}
}

// count is how many of the texts are not empty.
func count(texts ...string) (n int) {
	for _, t := range texts {
		if t != "" {
			n++
		}
	}
	return n
}

// reconnectDelay backs off from 100 ms to 5 s, with full jitter so that clients of a restarted server do not come at once.
func reconnectDelay(attempts int) time.Duration {
	most := min(5*time.Second, 100*time.Millisecond<<min(attempts, 6))
	return most/2 + rand.N(most/2)
}
