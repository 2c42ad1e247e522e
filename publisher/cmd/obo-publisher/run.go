package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/publisher/observe"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/child"
	"github.com/obo-relay/obo-relay/relay/telemetry/export"
)

const (
	// watchInterval is how often kit, trust and key file are looked at.
	watchInterval = 2 * time.Second
	// drainTime leaves a second of the 15 that a platform gives for telling workers and callers.
	drainTime = 14 * time.Second
	// idleTime is how long a connection is kept that its caller does not use, and takes a file descriptor. Callers that close them
	// by themselves do so before: Node after 5 s, httpx after 5 s, aiohttp after 15 s, Go after 90 s. Those that never do, as requests,
	// look before they use one whether it is open still; so the longer, the seldomer is one closed while they do.
	idleTime = 2 * time.Minute
	// lastWords is for callers to be told that their time is over.
	lastWords = 500 * time.Millisecond
)

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
	if readable != nil {
		log.Warn("other processes of this user can read the secrets of this one", "error", readable)
	}
	p, err := assemble(f, log)
	switch {
	case err != nil && p != nil:
		f.Report(stderr, command, err) // and goes on without a relay
		err = nil
	case err == nil && f.RequireRelay != nil && *f.RequireRelay:
		if err = p.relayFaults(ctx); err != nil {
			closeAll(p.routes)
		}
	}
	status := 0
	if err == nil {
		status, err = f.runWithApp(ctx, p, stdout)
	}
	if err != nil {
		f.Report(stderr, command, err)
		return max(status, 1)
	}
	return status
}

// process is everything that runs. Without a transport it answers each call with a problem document.
type process struct {
	side      *relay.Side
	transport *publisher.Transport
	observer  *observe.Observer // nil: nobody observes
	exporter  *export.Exporter
	routes    []*route
	log       *slog.Logger
}

// assemble checks everything that can be checked at the start and reports all faults at once. Where the relay is not
// required it returns both the faults of its settings and a process.
func assemble(f flags, log *slog.Logger) (*process, error) {
	side, sideFault := f.Load(relay.RoleApp)
	side.Connect.OneServer = true
	cfg := publisher.Config{
		App: f.appName(side), Identity: side.Identity, Trust: side.Trust, NATS: side.Connect, Prefix: side.Prefix,
		Timeout: f.Timeout, IdleTimeout: f.IdleTimeout, MaxInFlight: f.MaxInFlight, OpaqueTokens: f.OpaqueTokens, TrustBroker: f.TrustBroker,
		Hints: side.Hints, Log: log,
	}
	p := &process{side: side, log: log}
	observeFault := p.observe(f, &cfg)
	var err error
	if sideFault == nil {
		p.transport, err = publisher.New(cfg)
	} else {
		if cfg.App == "" && f.KitFile+f.Kit != "" {
			cfg.App = "stand-in" // for the name in the kit, which has a fault
		}
		err = errors.Join(sideFault, ownFaults(cfg))
	}
	routes, routeFault := parseRoutes(f.Route, side.Trust)
	p.routes = routes
	listenFault := listen(routes)
	err = errors.Join(err, untrusted(routes, side.Trust))
	if p.observer != nil && p.transport != nil && observeFault == nil {
		observeFault = p.observer.Watch(p.transport)
	}
	if routeFault != nil || listenFault != nil || observeFault != nil || err != nil && f.needsSettings() {
		closeAll(routes)
		p.exporter.Close()
		return nil, errors.Join(err, routeFault, listenFault, observeFault)
	}
	if err == nil {
		f.warn(log, side)
	}
	return p, err
}

// observe has the requests observed if the flags or the environment ask for it.
func (p *process) observe(f flags, cfg *publisher.Config) (err error) {
	if p.exporter, err = f.Telemetry.New(context.Background(), command, p.log); err != nil || !p.exporter.On() {
		return err
	}
	if p.observer, err = observe.New(p.exporter.Tracers(), p.exporter.Meters()); err == nil {
		cfg.OnAttempt = p.observer.Attempt
	}
	return err
}

// ownFaults are those of the transport itself, so that they are reported together with those of its parts: what has a
// fault of its own is replaced by a stand-in.
func ownFaults(cfg publisher.Config) error {
	cfg.Identity = relay.NewIdentity()
	cfg.NATS, cfg.Prefix, cfg.Hints = relay.ConnectConfig{URL: "nats://127.0.0.1"}, "", relay.HintsFull
	keys := map[string]relay.JWKS{"stand-in": {Keys: []relay.JWK{cfg.Identity.Public()}}}
	var err error
	if cfg.Trust, err = (relay.TrustFile{Type: relay.TrustTypeName, Services: keys}).Trust(); err != nil {
		return err
	}
	_, err = publisher.New(cfg)
	return err
}

// warn says what is allowed but has consequences.
func (f flags) warn(log *slog.Logger, side *relay.Side) {
	if f.OpaqueTokens {
		log.Warn("opaque tokens are accepted: their expiry cannot be read, so only the workspace can tell when one has run out")
	}
	if f.TrustBroker {
		log.Warn("the NATS server is believed when it says that nobody received a request: one that lies can have a request executed twice")
	}
	if side.Name != "" && f.App != "" && side.Name != f.App {
		log.Warn("the kit is of another app: workers believe its key under the kit's name only", "app", f.App, "kit", side.Name)
	}
}

// run serves until ctx ends or something fails; then it lets requests end, and stops the transport after them.
func (p *process) run(outer context.Context, stdout io.Writer) error {
	servers, err := p.servers()
	if err != nil {
		closeAll(p.routes)
		p.exporter.Close()
		return err
	}
	ctx, failed := context.WithCancelCause(outer)
	defer failed(nil)
	life, stop := context.WithCancel(context.WithoutCancel(outer))
	var background sync.WaitGroup
	defer background.Wait()
	defer stop()
	background.Go(func() { failed(p.exporter.Run(life)) })
	sending, stopSending := context.WithCancel(life)
	defer stopSending()
	if p.transport != nil {
		background.Go(func() { failed(p.transport.Run(sending)) })
		background.Go(func() {
			p.side.Watch(life, watchInterval, p.log, relay.Changes{Trust: p.transport.SetTrust, Identity: p.transport.SetIdentity})
		})
	}
	background.Go(func() { child.Scrub(life) })
	for i, r := range p.routes {
		background.Go(func() { failed(servers[i].Serve(relay.Patient(r.listener, p.log))) })
		p.log.Info("serving", "service", r.service, "url", r.url())
		fmt.Fprintf(stdout, "%s=%s\n", r.variable(), r.url())
	}
	<-ctx.Done()
	p.log.Info("draining")
	shutdown(servers, drainTime, stopSending)
	p.log.Info("drained")
	if outer.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

func (p *process) servers() ([]*http.Server, error) {
	var servers []*http.Server
	for _, r := range p.routes {
		handler := http.Handler(http.HandlerFunc(unavailable))
		if p.transport != nil && slices.Contains(p.transport.Services(), r.service) {
			cfg := publisher.SidecarConfig{Transport: p.transport, Service: r.service, Log: p.log}
			if p.observer != nil {
				cfg.Via = p.observer.Transport(p.transport)
			}
			var err error
			if handler, err = publisher.NewSidecar(cfg); err != nil {
				return nil, err
			}
			if p.observer != nil {
				handler = p.observer.Handler(r.service, handler)
			}
		}
		servers = append(servers, &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       idleTime,
			ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
			// net/http would answer OPTIONS * without asking.
			DisableGeneralOptionsHandler: true,
		})
	}
	return servers, nil
}

// shutdown takes no new request and waits for those under way. When their time is over it breaks them off, of which their
// callers are told.
func shutdown(servers []*http.Server, patience time.Duration, breakOff func()) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var all sync.WaitGroup
	for _, s := range servers {
		all.Go(func() {
			if s.Shutdown(ctx) == nil {
				return
			}
			breakOff()
			ctx, cancel := context.WithTimeout(context.Background(), lastWords)
			defer cancel()
			if s.Shutdown(ctx) != nil {
				_ = s.Close()
			}
		})
	}
	all.Wait()
}

// unavailable answers where --require-relay=false let the publisher start with faulty settings.
func unavailable(w http.ResponseWriter, _ *http.Request) {
	problem := relay.NewError(relay.CodeNotConfigured, "obo-publisher runs without a relay, its settings are faulty and its log names the faults").Problem()
	body, err := relay.PrettyJSON(problem)
	if err != nil {
		body = nil
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(problem.Status)
	_, _ = w.Write(body) // the caller may have left
}
