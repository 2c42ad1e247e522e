package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

const (
	// startTimeout is far above what a server without cluster and streams takes, which is some milliseconds.
	startTimeout = 30 * time.Second
	// hardStop is what a drain may take longer than it was given before the server is stopped outright.
	hardStop = 2 * time.Second
)

// Broker is one nats-server.
type Broker struct {
	cfg     Config
	opts    *server.Options
	started atomic.Bool
	ready   chan struct{}
	server  *server.Server // set before ready is closed, as are begun and app
	begun   time.Time
	app     *appServer // with Config.App
	failed  chan error
}

// New reads the configuration and reports its faults, with file and line. Nothing is opened yet.
func New(cfg Config) (*Broker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	opts, err := cfg.options()
	if err != nil {
		return nil, err
	}
	return &Broker{cfg: cfg, opts: opts, ready: make(chan struct{}), failed: make(chan error, 1)}, nil
}

// Run serves until ctx ends, then gives clients notice, closes them within DrainTimeout and returns nil. It returns
// an error when the server cannot start or fails. It can be called once.
func (b *Broker) Run(ctx context.Context) error {
	if b.started.Swap(true) {
		return errors.New("broker: Run was called twice; make a new Broker")
	}
	if b.opts.JetStream && b.opts.StoreDir != "" {
		if err := storeWritable(b.opts.StoreDir); err != nil {
			return err
		}
	}
	var listener net.Listener
	if b.cfg.App != nil {
		var err error
		if listener, err = b.listenApp(); err != nil {
			return err
		}
		defer listener.Close()
	}
	srv, err := server.NewServer(b.opts)
	if err != nil {
		return b.cfg.fault(err)
	}
	srv.SetLoggerV2(&logger{b.cfg.Log, b.failed}, b.opts.Debug, false, false)
	if err := b.start(srv); err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		return err
	}
	b.server, b.begun = srv, time.Now()
	served := make(chan error, 1)
	if listener != nil {
		b.app = b.newAppServer(listener)
		go func() { served <- b.app.serve() }()
	}
	close(b.ready)
	select {
	case <-ctx.Done():
	case err = <-b.failed:
	case err = <-served:
	}
	b.stop(srv)
	return err
}

// start returns when every listener serves, or with the reason why one does not.
func (b *Broker) start(srv *server.Server) error {
	srv.Start()
	select {
	case err := <-b.failed:
		return err
	default:
	}
	if !srv.ReadyForConnections(startTimeout) {
		return fmt.Errorf("broker: not ready after %v", startTimeout)
	}
	return nil
}

func (b *Broker) stop(srv *server.Server) {
	late := time.AfterFunc(b.cfg.DrainTimeout+hardStop, srv.Shutdown)
	defer late.Stop()
	srv.LameDuckShutdown()
	srv.Shutdown()
	srv.WaitForShutdown()
	if b.app != nil {
		b.app.close()
	}
}

// Ready is closed when the broker serves. It stays open if Run fails before that.
func (b *Broker) Ready() <-chan struct{} { return b.ready }

// ClientURL is where NATS clients connect, for example nats://127.0.0.1:4222. It waits for Ready's moment: before,
// it is empty.
func (b *Broker) ClientURL() string {
	if !b.isReady() {
		return ""
	}
	return b.server.ClientURL()
}

// LocalURL is where a client in the same container connects, as the configuration says it; empty if that has TLS or takes a
// free port.
func (b *Broker) LocalURL() string {
	if b.opts.TLSConfig != nil || b.opts.Port <= 0 {
		return ""
	}
	host := b.opts.Host
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "nats://" + net.JoinHostPort(host, strconv.Itoa(b.opts.Port))
}

// WebSocketURL is where NATS clients connect over WebSocket, for example ws://127.0.0.1:8000. It is empty without
// such a listener and before Ready.
func (b *Broker) WebSocketURL() string {
	if !b.isReady() || b.opts.Websocket.Port == 0 {
		return ""
	}
	if b.app != nil {
		return "ws://" + b.app.listener.Addr().String() + brokerapp.Path
	}
	return b.server.WebsocketURL()
}

// MonitorURL is where the monitoring pages are. It is empty without them and before Ready.
func (b *Broker) MonitorURL() string {
	if !b.isReady() {
		return ""
	}
	addr := b.server.MonitorAddr()
	if addr == nil {
		return ""
	}
	return "http://" + addr.String()
}

func (b *Broker) isReady() bool {
	select {
	case <-b.ready:
		return true
	default:
		return false
	}
}

// Reload reads the configuration again and applies what can change while serving: users and permissions above all.
// A user that is gone is disconnected. On an error nothing has changed.
func (b *Broker) Reload() error {
	if !b.isReady() {
		return errors.New("broker: reload before the broker serves")
	}
	opts, err := b.cfg.options()
	if err != nil {
		return err
	}
	if err := b.server.ReloadOptions(opts); err != nil {
		return b.cfg.fault(err)
	}
	return nil
}
