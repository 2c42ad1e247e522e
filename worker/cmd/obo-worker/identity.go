package main

import (
	"maps"
	"net/http"
	"os"
	"slices"

	"github.com/obo-relay/obo-relay/worker"
)

// identityFlags change which headers tell the middleware app who the person is.
type identityFlags struct {
	IdentityHeader map[string]string `name:"identity-header" placeholder:"HEADER=SOURCE" help:"Header that tells the app who the person is: email, id, user_name, display_name, id@SUFFIX, or none to leave it out. May be repeated. Default: X-Forwarded-Email=email, X-Forwarded-User=id (with @ and $$DATABRICKS_WORKSPACE_ID if that is set), X-Forwarded-Preferred-Username=user_name."`
}

// identityHeaders is the platform's table with the changes of the flags.
func (f identityFlags) identityHeaders() worker.IdentityHeaders {
	table := worker.DefaultIdentityHeaders().WithWorkspace(os.Getenv("DATABRICKS_WORKSPACE_ID"))
	given := map[string]string{} // by header: how it was spelled first
	for _, name := range slices.Sorted(maps.Keys(f.IdentityHeader)) {
		source, header := f.IdentityHeader[name], http.CanonicalHeaderKey(name)
		first, again := given[header]
		switch {
		case again: // both as they stand, so that the worker refuses two for one header
			delete(table, header)
			table[first], table[name] = f.IdentityHeader[first], source
			continue
		case source == "none":
			delete(table, header)
		default:
			table[header] = source
		}
		given[header] = name
	}
	return table
}
