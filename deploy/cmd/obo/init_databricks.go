package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
)

// brokerApp is where a relay on Databricks has its NATS server, if nothing else is said.
const brokerApp = "app:obo-broker"

// secretOf is where a side's kit is kept: permissions are for whole scopes, so each app has one of its own.
func secretOf(s *setup.Side) (scope, key string) {
	return "obo-" + s.Name, strings.TrimSuffix(filepath.Base(s.KitFile), ".json")
}

// databricks prints the commands that put the kits where the apps find them. No secret is on a command line: a kit goes in
// by standard input.
func (g guide) databricks() {
	g.reach()
	g.line("")
	g.line("Put each kit into a secret scope of its own, before the apps are deployed:")
	g.line("")
	for _, s := range g.Sides {
		scope, key := secretOf(s)
		g.line("  databricks secrets create-scope %s", scope)
		g.line("  databricks secrets put-secret %s %s < %s", scope, key, g.path(s.KitFile))
	}
	g.line("")
	g.line("A bundle that names the secret among an app's resources lets the app read it. Else, once the apps exist:")
	g.line("")
	for _, s := range g.Sides {
		scope, _ := secretOf(s)
		g.line(`  databricks secrets put-acl %s "$(databricks apps get %s --output json | sed -n 's/.*"service_principal_client_id": *"\([^"]*\)".*/\1/p')" READ`, scope, s.Name)
	}
	g.line("")
	g.line("The same is done by obo init --dir %s --databricks --apply, again after each change of a kit.", quote(g.dir))
}

// reach warns of a relay that was set up for one machine: its kits lead the apps to themselves.
func (g guide) reach() {
	u, err := url.Parse(g.Config.NATSURL)
	if err != nil || !relay.Loopback(u.Hostname()) {
		return
	}
	g.line("")
	g.line("The kits name %s, which no app on Databricks can reach. Give another address first, or take another directory:", g.Config.NATSURL)
	g.line("")
	g.line("  obo init --dir %s --databricks --nats %s", quote(g.dir), brokerApp)
}

// apply runs the commands.
func (g guide) apply(ctx context.Context, cli databricksCLI) error {
	g.reach()
	g.line("")
	var faults []error
	for _, s := range g.Sides {
		err := g.applySide(ctx, cli, s)
		if errors.Is(err, errNoCLI) {
			return err // the same for each
		}
		if err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func (g guide) applySide(ctx context.Context, cli databricksCLI, s *setup.Side) error {
	scope, key := secretOf(s)
	kit, err := os.ReadFile(s.KitFile)
	if err != nil {
		return err
	}
	if _, err := cli.run(ctx, nil, "secrets", "create-scope", scope); err != nil && !strings.Contains(err.Error(), "already exists") {
		return err
	}
	if _, err := cli.run(ctx, kit, "secrets", "put-secret", scope, key); err != nil {
		return err
	}
	g.line("  scope %s, key %s: the kit of %s %s", scope, key, s.Role, s.Name)
	app, err := cli.app(ctx, s.Name)
	if err != nil && !strings.Contains(err.Error(), "does not exist") {
		return fmt.Errorf("the kit is in place, but not whether app %s may read it: %w", s.Name, err)
	}
	if app.ServicePrincipalClientID == "" {
		g.line("  app %s does not exist yet: the bundle lets it read the scope, or this command when it is run again", s.Name)
		return nil
	}
	if _, err := cli.run(ctx, nil, "secrets", "put-acl", scope, app.ServicePrincipalClientID, "READ"); err != nil {
		return err
	}
	g.line("  app %s may read it, as service principal %s", s.Name, app.ServicePrincipalClientID)
	return nil
}
