package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/child"
	"github.com/obo-relay/obo-relay/relay/telemetry/export"
	"github.com/obo-relay/obo-relay/relay/version"
	"github.com/obo-relay/obo-relay/worker"
)

// watchInterval is how often kit, trust and key file are looked at.
const watchInterval = 2 * time.Second

// run serves until ctx ends, and returns the exit code: 0 after a drain, 1 for faults, 2 for flags that cannot be read, and
// that of the app if it runs one.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	child.Slack()
	readable := child.Hide()
	f, code := parse(args, stdout, stderr)
	if code >= 0 {
		return code
	}
	child.OutliveReaders()
	log := f.Logger(stderr)
	tameStdlog(log)
	if readable != nil {
		log.Warn("other processes of this user can read the secrets of this one", "error", readable)
	}
	p, err := assemble(f, stdout, log)
	status := 0
	if err == nil {
		status, err = f.runWithApp(ctx, p)
	}
	if err != nil {
		f.Report(stderr, command, err)
		return max(status, 1)
	}
	return status
}

// process is everything that runs.
type process struct {
	side   *relay.Side
	worker *worker.Worker
	guard  guardFlags
	policy *worker.Policy
	audit  *auditing
	front  *frontDoor
	export *export.Exporter
	close  func()
	log    *slog.Logger
}

// assemble checks everything that can be checked at the start and reports all faults at once.
func assemble(f flags, stdout io.Writer, log *slog.Logger) (*process, error) {
	side, err := f.Load(relay.RoleService)
	side.Connect.OneServer = true
	faults := []error{err}
	o, err := f.observe(log)
	faults = append(faults, err)
	handler, closeRoutes, err := f.handler(log, o)
	faults = append(faults, err)
	lookup, closeLookup, err := f.lookup(o)
	faults = append(faults, err)
	policy, err := f.readPolicy()
	faults = append(faults, err)
	audit, auditFault := f.audit(f.serviceName(side), side, stdout, log)
	_, err = f.frontAddress()
	faults = append(faults, auditFault, err, f.readiness().Validate())
	cfg := worker.Config{
		Service: f.serviceName(side), Identity: side.Identity, Trust: side.Trust, NATS: side.Connect, Prefix: side.Prefix,
		Handler: handler, Lookup: lookup, IdentityHeaders: f.identityHeaders(), OpaqueTokens: f.OpaqueTokens, Hints: side.Hints,
		Observer: o.request(), Policy: policy, Audit: audit.Auditor, AuditRequired: f.AuditRequired && auditFault == nil,
		MaxInFlight: f.MaxInFlight, MaxBody: f.MaxBody, DrainTimeout: f.drainTimeout(), Version: version.Build(), Log: log,
	}
	var w *worker.Worker
	var front *frontDoor
	if err = errors.Join(faults...); err != nil {
		if f.UserLookup == "on" && lookup == nil {
			cfg.Policy = nil // it misses a look-up that is faulty, not off
		}
		if cfg.Service == "" && f.KitFile+f.Kit != "" {
			cfg.Service = "stand-in" // for the name in the kit, which has a fault
		}
		err = errors.Join(err, ownFaults(cfg))
	} else if w, err = worker.New(cfg); err == nil {
		front, err = f.openFront(w, o)
		err = errors.Join(err, o.watch(w))
	}
	closeAll := func() { closeRoutes(); closeLookup(); audit.close() }
	if err != nil {
		closeAll()
		o.exporter.Close()
		return nil, err
	}
	f.warn(log, side)
	return &process{side: side, worker: w, guard: f.guardFlags, policy: policy, audit: audit, front: front, export: o.exporter, close: closeAll, log: log}, nil
}

// ownFaults are those of the worker itself, so that they are reported together with those of its parts: what has a fault
// of its own is replaced by a stand-in.
func ownFaults(cfg worker.Config) error {
	cfg.Identity, cfg.Handler = relay.NewIdentity(), http.NotFoundHandler()
	cfg.NATS, cfg.Prefix, cfg.Hints = relay.ConnectConfig{URL: "nats://127.0.0.1"}, "", relay.HintsFull
	keys := map[string]relay.JWKS{"stand-in": {Keys: []relay.JWK{cfg.Identity.Public()}}}
	var err error
	if cfg.Trust, err = (relay.TrustFile{Type: relay.TrustTypeName, Apps: keys}).Trust(); err != nil {
		return err
	}
	_, err = worker.New(cfg)
	return err
}

func (f flags) app(log *slog.Logger, o *observing) (http.Handler, error) {
	upstream := f.upstream()
	if upstream == "" {
		return nil, errors.New("--forward (OBO_FORWARD): nothing says where the middleware app is: give its URL, for example http://127.0.0.1:8000, or a --workspace for the routes under /.obo/ alone")
	}
	base, err := url.Parse(upstream)
	if err != nil { // its text quotes the URL, and that may hold a password
		return nil, errors.New("--forward (OBO_FORWARD): this is not a URL: want for example http://127.0.0.1:8000")
	}
	return worker.Forward(base, log, o.upstream()...)
}

// lookup asks the workspace who a person is, and remembers for a short time. Switched off it is nil.
func (f flags) lookup(o *observing) (worker.Lookup, func(), error) {
	if f.UserLookup == "off" {
		return nil, func() {}, nil
	}
	workspace, err := worker.NewWorkspace(worker.WorkspaceConfig{Host: f.Workspace, UserAgent: command + "/" + version.Build()})
	if err != nil {
		return nil, func() {}, fmt.Errorf("--workspace (OBO_WORKSPACE, DATABRICKS_HOST): %w; or switch the look-up off with --user-lookup=off", err)
	}
	lookup, err := worker.NewCachedLookup(worker.LookupConfig{Ask: o.ask(workspace.Me)})
	if err != nil {
		return nil, func() {}, err
	}
	return lookup, func() { lookup.Close(); workspace.Close() }, nil
}

// warn says what is allowed but has consequences.
func (f flags) warn(log *slog.Logger, side *relay.Side) {
	if f.UserLookup == "off" {
		log.Warn("user look-up is off: nobody verifies the tokens, X-Forwarded-Email, -User and -Preferred-Username are not set, and the middleware must ask the workspace itself who a person is before it believes a request")
	}
	if app, err := url.Parse(f.upstream()); err == nil && app.Scheme == "http" && !relay.Loopback(app.Hostname()) {
		log.Warn("the requests cross the network to the middleware app in clear text, with each person's token: run the worker beside the app, or forward to https", "forward", app.Host)
	}
	if f.OpaqueTokens {
		log.Warn("opaque tokens are accepted: their expiry cannot be read, so only the workspace can tell when one has run out")
	}
	if side.Name != "" && f.Service != "" && side.Name != f.Service {
		log.Warn("the kit is of another service: publishers believe its key under the kit's name only", "service", f.Service, "kit", side.Name)
	}
}

// run serves until ctx ends or the worker fails.
func (p *process) run(ctx context.Context) error {
	defer p.close()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	ctx, stop := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer end()
	defer stop()
	background.Go(func() {
		p.side.Watch(ctx, watchInterval, p.log, relay.Changes{Trust: p.worker.SetTrust, Identity: p.worker.SetIdentity})
	})
	exported := make(chan error, 1)
	background.Go(func() {
		defer stop()
		exported <- p.export.Run(life)
	})
	background.Go(func() { p.guard.watchPolicy(ctx, p.worker, p.policy, p.log) })
	background.Go(func() { p.audit.reopen(ctx, p.log) })
	background.Go(func() { child.Scrub(ctx) })
	front := make(chan error, 1)
	background.Go(func() {
		defer stop() // without its front door the app cannot be reached
		front <- p.front.run(ctx)
	})
	err := p.worker.Run(ctx)
	stop()
	err = errors.Join(err, <-front)
	end() // what the drain has done is exported too
	return errors.Join(err, <-exported)
}
