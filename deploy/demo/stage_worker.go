package demo

import (
	"context"
	"net/url"
	"time"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// startWorker starts the worker beside the middleware app: it asks the workspace who each token's person is and hands
// the requests to the app.
func (s *Stage) startWorker(_ context.Context, cfg Config) error {
	side, err := s.side(relay.RoleService, middlewareApp)
	if err != nil {
		return err
	}
	log := s.log.With("part", "worker")
	base, err := url.Parse(s.middleware)
	if err != nil {
		return err
	}
	forward, err := worker.Forward(base, log)
	if err != nil {
		return err
	}
	lookup, err := s.newLookup()
	if err != nil {
		return err
	}
	config := worker.Config{
		Service: side.Name, Identity: side.Identity, Trust: side.Trust, NATS: side.Connect, Prefix: side.Prefix,
		Handler: s.probe.handler(forward), Lookup: s.probe.lookup(lookup),
		IdentityHeaders: worker.DefaultIdentityHeaders().WithWorkspace(s.Workspace.ID()),
		Now:             s.probe.workerClock, DrainQuiet: time.Millisecond, Log: log,
	}
	if cfg.breakWorker != nil {
		cfg.breakWorker(&config)
	}
	w, err := worker.New(config)
	if err != nil {
		return err
	}
	s.run("worker", w.Run)
	return nil
}

func (s *Stage) newLookup() (worker.Lookup, error) {
	workspace, err := worker.NewWorkspace(worker.WorkspaceConfig{Host: s.Workspace.URL()})
	if err != nil {
		return nil, err
	}
	s.onClose(func() error { workspace.Close(); return nil })
	lookup, err := worker.NewCachedLookup(worker.LookupConfig{Ask: workspace.Me})
	if err != nil {
		return nil, err
	}
	s.onClose(func() error { lookup.Close(); return nil })
	return lookup, nil
}
