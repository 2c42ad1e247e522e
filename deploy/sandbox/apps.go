package sandbox

import (
	"fmt"
	"net/http"
	"slices"
)

// getApp answers GET /api/2.0/apps/{name}, with the fields that callers here
// read. What a caller without permission is told is a guess.
func (w *Workspace) getApp(rw http.ResponseWriter, r *http.Request, who principal) {
	name := r.PathValue("name")
	app, ok := w.App(name)
	switch {
	case !ok:
		writeError(rw, http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST", fmt.Sprintf("App with name %s does not exist or is deleted.", name))
		return
	case !w.mayUse(app, who):
		writeError(rw, http.StatusForbidden, "PERMISSION_DENIED", fmt.Sprintf("%s does not have permission to view app %s.", who.name, name))
		return
	}
	state, status := "ACTIVE", "RUNNING"
	if app.URL == "" {
		state, status = "STOPPED", "UNAVAILABLE"
	}
	writeJSON(rw, http.StatusOK, map[string]any{
		"name":                        app.Name,
		"url":                         app.URL,
		"service_principal_client_id": app.ClientID,
		"service_principal_name":      "app-" + app.Name,
		"user_api_scopes":             app.Scopes,
		"compute_min_instances":       app.Instances,
		"compute_max_instances":       app.Instances,
		"compute_status":              map[string]any{"state": state, "active_instances": app.Instances},
		"app_status":                  map[string]any{"state": status},
	})
}

// mayUse tells whether the principal has the permission CAN_USE. An app's own
// service principal counts by the app's name too.
func (w *Workspace) mayUse(app App, who principal) bool {
	if app.CanUse == nil || slices.Contains(app.CanUse, who.name) {
		return true
	}
	return slices.ContainsFunc(app.CanUse, func(name string) bool {
		other, ok := w.App(name)
		return ok && other.ClientID == who.name
	})
}
