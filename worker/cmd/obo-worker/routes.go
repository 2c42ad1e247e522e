package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/obo-relay/obo-relay/relay/version"
	"github.com/obo-relay/obo-relay/worker"
)

// routeFlags are for what the worker itself serves under /.obo/, wherever it has a workspace.
type routeFlags struct {
	WorkspaceAPI []string `name:"workspace-api" placeholder:"PREFIX" help:"Part of the workspace's REST API that people may call as themselves at /.obo/workspace, for example /api/2.1/unity-catalog. May be repeated. Default: none."`
	Warehouse    string   `env:"OBO_WAREHOUSE,DATABRICKS_WAREHOUSE_ID" placeholder:"ID" help:"SQL warehouse for statements to /.obo/sql that name none."`
	SQLInline    bool     `name:"sql-inline" help:"Take SQL results through the workspace's API, up to 25 MiB, and not from its cloud storage: for networks from which that cannot be reached."`
	SQLLinkHost  []string `name:"sql-link-host" placeholder:"HOST" help:"Host of the workspace's cloud storage that may resolve to a private address. May be repeated."`
}

// handler is what serves relayed requests: the worker's own routes if there is a workspace, and the middleware app if there
// is one.
func (f flags) handler(log *slog.Logger, o *observing) (http.Handler, func(), error) {
	var app http.Handler
	var faults []error
	if f.upstream() != "" || f.Workspace == "" || f.Front != "" || len(f.Command) > 0 {
		handler, err := f.app(log, o)
		app, faults = handler, append(faults, err)
	}
	if f.Workspace == "" {
		return app, func() {}, errors.Join(append(faults, f.needsWorkspace())...)
	}
	workspace, err := worker.NewWorkspace(worker.WorkspaceConfig{Host: f.Workspace, UserAgent: command + "/" + version.Build()})
	if err != nil {
		if f.UserLookup == "off" { // else the look-up says so
			faults = append(faults, fmt.Errorf("--workspace (OBO_WORKSPACE, DATABRICKS_HOST): %w", err))
		}
		return nil, func() {}, errors.Join(faults...)
	}
	routes, err := worker.NewRoutes(worker.RoutesConfig{
		Workspace: workspace, Next: app, API: f.WorkspaceAPI, Warehouse: f.Warehouse, Inline: f.SQLInline, LinkHosts: f.SQLLinkHost, Log: log,
	})
	if err = errors.Join(append(faults, err)...); err != nil {
		return nil, func() {}, err
	}
	return routes, func() { routes.Close(); workspace.Close() }, nil
}

// needsWorkspace refuses flags that would have no effect.
func (f flags) needsWorkspace() error {
	if len(f.WorkspaceAPI) > 0 || f.SQLInline || len(f.SQLLinkHost) > 0 {
		return errors.New("--workspace-api, --sql-inline and --sql-link-host need --workspace (OBO_WORKSPACE, DATABRICKS_HOST)")
	}
	return nil
}
