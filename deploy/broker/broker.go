package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
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
	server  *server.Server // set before ready is closed
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
	b.server = srv
	close(b.ready)
	select {
	case <-ctx.Done():
		b.stop(srv)
		return nil
	case err := <-b.failed:
		b.stop(srv)
		return err
	}
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

// WebSocketURL is where NATS clients connect over WebSocket, for example ws://127.0.0.1:8000. It is empty without
// such a listener and before Ready.
func (b *Broker) WebSocketURL() string {
	if !b.isReady() || b.opts.Websocket.Port == 0 {
		return ""
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
