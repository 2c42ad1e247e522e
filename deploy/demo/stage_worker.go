package demo

import (
	"context"
	"os"
	"path/filepath"

	"github.com/obo-relay/obo-relay/worker"
)

// startWorker starts the worker beside the middleware app: it asks the workspace who each token's person is and hands
// the requests to the app.
func (s *Stage) startWorker(_ context.Context, cfg Config) error {
	workspace, lookup, err := s.Lookup(s.Workspace.URL())
	if err != nil {
		return err
	}
	routes, err := s.Routes(s.middleware, worker.RoutesConfig{Workspace: workspace, Warehouse: warehouse, Inline: true})
	if err != nil {
		return err
	}
	policy, err := s.newPolicy()
	if err != nil {
		return err
	}
	return s.StartWorker(middlewareApp, func(c *worker.Config) {
		c.Handler, c.Lookup, c.Policy, c.Workspace = s.probe.handler(routes), s.probe.lookup(lookup), policy, workspace
		c.IdentityHeaders = worker.DefaultIdentityHeaders().WithWorkspace(s.Workspace.ID())
		c.Now = s.probe.workerClock
		if cfg.breakWorker != nil {
			cfg.breakWorker(c)
		}
	})
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
