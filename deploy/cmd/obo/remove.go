package main

import (
	"fmt"

	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
)

// removeCommand takes apps and services out of a directory: those that are named here, and not what OBO_APP and OBO_SERVICE tell
// a publisher or worker.
type removeCommand struct {
	Dir     string   `required:"" placeholder:"DIR" help:"Directory of obo init."`
	App     []string `env:"-" placeholder:"NAME" help:"The app. May be repeated."`
	Service []string `env:"-" placeholder:"NAME" help:"The service. May be repeated."`
}

// Run removes them and says what follows.
func (c *removeCommand) Run(t *terminal) error {
	r, err := setup.Remove(c.Dir, c.App, c.Service)
	if err != nil {
		return err
	}
	for _, s := range r.Sides {
		fmt.Fprintf(t.stdout, "removed: %s %s, key %s\n", s.Role, s.Name, s.Kid)
	}
	for _, list := range []struct {
		what  string
		paths []string
	}{{"deleted", r.Deleted}, {"changed", r.Changed}, {"left, since it was not made by obo", r.Left}} {
		for _, path := range list.paths {
			fmt.Fprintf(t.stdout, "%s: %s\n", list.what, shown(c.Dir, path))
		}
	}
	for _, s := range r.Sides {
		if s.Role == relay.RoleApp {
			fmt.Fprintf(t.stdout, "next: stop the publishers of %s\n", s.Name)
			continue
		}
		fmt.Fprintf(t.stdout, "next: stop the workers of %s, and restart the apps' publishers without a route to it\n", s.Name)
	}
	fmt.Fprintln(t.stdout, "next: reload the NATS server, which shuts them out; deliver the changed kits and trust files: from then on their keys are refused")
	return nil
}
