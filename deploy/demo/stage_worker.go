package demo

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
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
	workspace, lookup, err := s.newLookup()
	if err != nil {
		return err
	}
	routes, err := worker.NewRoutes(worker.RoutesConfig{Workspace: workspace, Next: forward, Warehouse: warehouse, Inline: true, Log: log})
	if err != nil {
		return err
	}
	s.onClose(func() error { routes.Close(); return nil })
	policy, err := s.newPolicy()
	if err != nil {
		return err
	}
	config := worker.Config{
		Service: side.Name, Identity: side.Identity, Trust: side.Trust, NATS: side.Connect, Prefix: side.Prefix,
		Handler: s.probe.handler(routes), Lookup: s.probe.lookup(lookup), Policy: policy, Workspace: workspace,
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

func (s *Stage) newLookup() (*worker.Workspace, worker.Lookup, error) {
	workspace, err := worker.NewWorkspace(worker.WorkspaceConfig{Host: s.Workspace.URL()})
	if err != nil {
		return nil, nil, err
	}
	s.onClose(func() error { workspace.Close(); return nil })
	lookup, err := worker.NewCachedLookup(worker.LookupConfig{Ask: workspace.Me})
	if err != nil {
		return nil, nil, err
	}
	s.onClose(func() error { lookup.Close(); return nil })
	return workspace, lookup, nil
}

// policyText keeps a part of the middleware app to one group, without a line of code in it.
const policyText = `type: obo.v1.policy
explain: true
rules:
  - {match: /, anyone: true}
  - {match: GET /finance/, groups: [` + groupAdmins + `]}
`

// newPolicy writes the policy to the stage's files and reads it from there, as obo-worker --policy does.
func (s *Stage) newPolicy() (*worker.Policy, error) {
	path := filepath.Join(s.Files.Config.Dir, "policy.yaml")
	if err := os.WriteFile(path, []byte(policyText), 0o600); err != nil {
		return nil, err
	}
	return worker.ReadPolicy(path)
}
