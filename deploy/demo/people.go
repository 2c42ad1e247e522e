package demo

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/obo-relay/obo-relay/deploy/sandbox"
)

// The people, apps and groups of the story.
const (
	Alice = "alice@example.com"
	Bob   = "bob@example.com"

	uiApp         = "ui"
	middlewareApp = "middleware"
	// middlewareClient is the OAuth client that the user of the story tried to exchange tokens with.
	middlewareClient = "middleware_client_id"

	groupAdmins   = "data-admins"
	groupAnalysts = "analysts"

	warehouse = "demo" // runs the SQL statement
	// statement is what the UI app posts to the worker's own route /.obo/sql.
	statement = "SELECT * FROM sales"
)

// groupsOf is who is in which group.
func groupsOf(user string) []string {
	if user == Alice {
		return []string{groupAdmins, groupAnalysts}
	}
	return []string{groupAnalysts}
}

func workspaceConfig() sandbox.Config {
	return sandbox.Config{
		Users: []sandbox.User{
			{UserName: Alice, DisplayName: "Alice", Groups: groupsOf(Alice)},
			{UserName: Bob, DisplayName: "Bob", Groups: groupsOf(Bob)},
		},
		Apps: []sandbox.App{
			{Name: uiApp, UserAuthorization: true, Scopes: []string{sandbox.ScopeSQL}},
			{Name: middlewareApp, ClientID: middlewareClient, UserAuthorization: true},
		},
		Tables: []sandbox.Table{{ // with a row filter
			Name: "sales", Columns: []sandbox.Column{{Name: "region"}, {Name: "amount", Type: "BIGINT"}},
			Rows: []sandbox.Row{{Values: []any{"emea", 10}}, {Values: []any{"amer", 20}, Groups: []string{groupAdmins}}},
		}},
	}
}

// short shows which kind of secret it is and how long, and no more of it than every JWT begins with.
func short(secret string) string {
	const most = 6
	if len(secret) <= 4*most {
		return "…"
	}
	return fmt.Sprintf("%s… (%d bytes)", secret[:most], len(secret))
}

// fingerprint tells whether two ends hold the same token without showing it.
func fingerprint(secret string) string {
	if secret == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:4])
}
