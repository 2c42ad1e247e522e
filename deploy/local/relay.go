package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/version"
	"github.com/obo-relay/obo-relay/worker"
)

// Relay is what runs, in the order in which it was started. Close ends it.
type Relay struct {
	Files setup.Result
	NATS  string // address of the broker
	// BrokerLog gets what the broker logs. Defaults to the log of New.
	BrokerLog *slog.Logger

	log     *slog.Logger
	closers []func() error
	failed  chan error
}

// New returns a relay of which nothing runs yet.
func New(log *slog.Logger) *Relay {
	return &Relay{BrokerLog: log, log: log, failed: make(chan error, 16)}
}

// Failed gets an error when a part ends by itself.
func (r *Relay) Failed() <-chan error { return r.failed }

// OnClose adds what Close is to do, before what was added earlier.
func (r *Relay) OnClose(f func() error) { r.closers = append(r.closers, f) }

// Close stops every part, the last one first. Closing twice is fine.
func (r *Relay) Close() error {
	var faults []error
	for len(r.closers) > 0 {
		last := len(r.closers) - 1
		f := r.closers[last]
		r.closers = r.closers[:last]
		faults = append(faults, f())
	}
	return errors.Join(faults...)
}

// Run runs a part until Close.
func (r *Relay) Run(name string, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := part(ctx); err != nil {
			r.failed <- fmt.Errorf("%s: %w", name, err)
		}
	}()
	r.OnClose(func() error { cancel(); <-done; return nil })
}

// StartBroker makes the files in cfg.Dir, or in a directory that Close removes, and starts a broker on a free port.
func (r *Relay) StartBroker(ctx context.Context, cfg setup.Config) error {
	if cfg.Dir == "" {
		dir, err := os.MkdirTemp("", "obo-")
		if err != nil {
			return err
		}
		r.OnClose(func() error { return os.RemoveAll(dir) })
		cfg.Dir = dir
	}
	port, err := FreePort()
	if err != nil {
		return err
	}
	cfg.NATSURL = fmt.Sprintf("nats://127.0.0.1:%d", port)
	if r.Files, err = setup.Init(cfg); err != nil {
		return err
	}
	b, err := broker.New(broker.Config{ConfigFile: r.Files.ServerConf, Log: r.BrokerLog.With("part", "broker"), DrainTimeout: time.Millisecond})
	if err != nil {
		return err
	}
	r.Run("broker", b.Run)
	select {
	case <-b.Ready():
		r.NATS = b.ClientURL()
		return nil
	case err := <-r.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// side is one end's configuration from the kit that obo init wrote.
func (r *Relay) side(role relay.Role, name string) (*relay.Side, error) {
	settings := relay.Settings{KitFile: r.Files.Side(role, name).KitFile, Hints: relay.HintsFull}
	return settings.Load(role)
}

// StartPublisher starts an app's publisher; change may alter its configuration.
func (r *Relay) StartPublisher(app string, change func(*publisher.Config)) (*publisher.Transport, error) {
	side, err := r.side(relay.RoleApp, app)
	if err != nil {
		return nil, err
	}
	cfg := publisher.Config{
		App: side.Name, Identity: side.Identity, Trust: side.Trust, NATS: side.Connect, Prefix: side.Prefix, Log: r.log.With("part", "publisher"),
	}
	change(&cfg)
	transport, err := publisher.New(cfg)
	if err == nil {
		r.Run("publisher", transport.Run)
	}
	return transport, err
}

// StartWorker starts a service's worker with a handler and a look-up of users; change may alter its configuration.
func (r *Relay) StartWorker(service string, change func(*worker.Config)) error {
	side, err := r.side(relay.RoleService, service)
	if err != nil {
		return err
	}
	cfg := worker.Config{
		Service: side.Name, Identity: side.Identity, Trust: side.Trust, NATS: side.Connect, Prefix: side.Prefix,
		DrainQuiet: time.Millisecond, Version: version.Build(), Log: r.log.With("part", "worker"),
	}
	change(&cfg)
	w, err := worker.New(cfg)
	if err == nil {
		r.Run("worker", w.Run)
	}
	return err
}

// Lookup returns a client of the workspace, and a look-up of users that asks it.
func (r *Relay) Lookup(host string) (*worker.Workspace, *worker.CachedLookup, error) {
	workspace, err := worker.NewWorkspace(worker.WorkspaceConfig{Host: host})
	if err != nil {
		return nil, nil, err
	}
	r.OnClose(func() error { workspace.Close(); return nil })
	lookup, err := worker.NewCachedLookup(worker.LookupConfig{Ask: workspace.Me})
	if err != nil {
		return nil, nil, err
	}
	r.OnClose(func() error { lookup.Close(); return nil })
	return workspace, lookup, nil
}

// Routes puts the worker's own routes before the middleware app at a base URL.
func (r *Relay) Routes(app string, cfg worker.RoutesConfig) (*worker.Routes, error) {
	log := r.log.With("part", "worker")
	base, err := parseBase(app)
	if err != nil {
		return nil, err
	}
	if cfg.Next, err = worker.Forward(base, log); err != nil {
		return nil, err
	}
	cfg.Log = log
	routes, err := worker.NewRoutes(cfg)
	if err == nil {
		r.OnClose(func() error { routes.Close(); return nil })
	}
	return routes, err
}
