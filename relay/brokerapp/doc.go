// Package brokerapp reaches a NATS server that is itself a Databricks App, through the platform's front proxy: NATS over
// WebSocket on port 443, with a bearer token on the upgrade request.
//
// The token is that of a service principal, or on a laptop of the developer. It opens the broker app's door and is used
// for nothing else: the front proxy sees it, nobody behind it does, and no person's request ever carries it. Who may do
// what inside is decided by NATS users and their keys, as with any NATS server.
//
//	door, err := brokerapp.New(brokerapp.Config{Address: "app:obo-broker", Tokens: principal, Workspace: host})
//	conn, err := door.Dial(ctx) // a net.Conn that speaks NATS
package brokerapp
