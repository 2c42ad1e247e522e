// Package sandbox is a small stand-in for the Databricks platform: real HTTP
// servers for tests, for "obo sandbox" and for the demo.
//
// It has two parts. A [Workspace] knows people, groups and service principals,
// issues OAuth tokens for them and answers the few workspace APIs that the
// relay's two ends call. A [Front] is the proxy that the platform puts before
// every Databricks App: it demands a sign-in, strips what a caller sent and
// tells the app who is calling.
//
//	browser ──▶ Front("ui") ──▶ UI app ··· relay ···▶ middleware app ──▶ Workspace
//	               │  302                                (as the person)     ▲
//	               └──────────────── sign-in page ──────────────────────────┘
//
// # Use
//
//	ws, err := sandbox.New(sandbox.Config{
//		Users: []sandbox.User{
//			{UserName: "alice@example.com", Groups: []string{"data-admins", "analysts"}},
//			{UserName: "bob@example.com", Groups: []string{"analysts"}},
//		},
//		Apps: []sandbox.App{{Name: "ui", UserAuthorization: true}},
//	})
//	api, err := ws.Listen("127.0.0.1:0")
//	defer api.Close()
//	front, err := sandbox.NewFront(sandbox.FrontConfig{Workspace: ws, App: "ui", Upstream: upstream})
//	door, err := front.Listen("127.0.0.1:0")
//	defer door.Close()
//
// # SQL
//
// The statement API executes these, in any letter case:
//
//	SELECT * FROM range(1000000)       id BIGINT, name STRING (each tenth is NULL), half DOUBLE, even BOOLEAN
//	SELECT id FROM range(1000000)      only id
//	SELECT * FROM sales                a [Table] of Config.Tables: rows and table may depend on the person's groups
//	SELECT current_user()              whose token it is
//	SELECT :a, 1, 'x', NULL            one row, with named parameters; current_user() too
//	SELECT slow(5), SELECT queued(5)   RUNNING or PENDING for 5 s
//	SELECT stuck()                     until it is canceled
//	SELECT raise_error('text')         FAILED
//	INSERT …, CREATE …                 nothing, without a result
//
// Anything else fails as a syntax error. [Workspace.Statements] tells who
// submitted what, and [Workspace.AwaitStatements] waits for it.
//
// # What it does not model
//
// It was written from public documentation, SDK source and users' reports, not
// from the platform itself, and it is no authority on the platform:
//
//   - Of the REST API there are only SCIM Me, SQL statements, one app by its
//     name, the OIDC token, discovery and key documents. No Unity Catalog, no
//     permissions API, no accounts API.
//   - SQL is the few statements listed above, by their form. Any warehouse runs
//     at once and never starts up. Whose statement it is decides who may ask for
//     it; to others it does not exist (a guess). Results are generated on demand
//     and gone after an hour. Arrow streams know Int64 and Utf8.
//   - OAuth: authorization codes are redeemed inside this process by the front
//     proxy. There is no PKCE, refresh token, consent page, or sign-in for a
//     command line tool, and token exchange always fails, as it did for the
//     user this project began with.
//   - Tokens are ES256, the platform's are RS256; the claims are alike. Scopes
//     are compared by name: there is no hierarchy besides all-apis.
//   - The wording of 401 answers varies on the platform, and some people report
//     403 for an expired token. A [Fault] can play any such answer.
//   - CAN_USE is a list in App.CanUse, which everybody is on by default. What
//     is answered to those who are not is a guess.
//   - Which headers the front proxy passes is an allow-list of ours: known is
//     that Authorization and custom headers do not cross from app to app. The
//     exact values of X-Forwarded-User and X-Forwarded-Preferred-Username are
//     not fully documented; see [Front].
//   - Whether a person's bearer sent straight to another app's /api/ route
//     reaches it is reported both ways; FrontConfig.CarryUser plays the one in
//     which it does.
//   - No TLS, no network policies, no rate limits of its own, no scaling of apps.
//   - The sign-in page asks for no password. Listen on loopback only.
package sandbox
