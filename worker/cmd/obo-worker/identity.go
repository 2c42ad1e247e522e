package main

import (
	"net/http"
	"os"

	"github.com/obo-relay/obo-relay/worker"
)

// identityFlags change which headers tell the middleware app who the person is.
type identityFlags struct {
	IdentityHeader map[string]string `name:"identity-header" placeholder:"HEADER=SOURCE" help:"Header that tells the app who the person is: email, id, user_name, display_name, id@SUFFIX, or none to leave it out. May be repeated. Default: X-Forwarded-Email=email, X-Forwarded-User=id (with @ and $$DATABRICKS_WORKSPACE_ID if that is set), X-Forwarded-Preferred-Username=user_name."`
}

// identityHeaders is the platform's table with the changes of the flags.
func (f identityFlags) identityHeaders() worker.IdentityHeaders {
	table := worker.DefaultIdentityHeaders().WithWorkspace(os.Getenv("DATABRICKS_WORKSPACE_ID"))
	for name, source := range f.IdentityHeader {
		if source == "none" {
			delete(table, http.CanonicalHeaderKey(name))
			continue
		}
		table[http.CanonicalHeaderKey(name)] = source
	}
	return table
}
