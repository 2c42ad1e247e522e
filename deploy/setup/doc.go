// Package setup makes the files of a relay: identities, trust files, kits, NATS users, the server's configuration and the
// nats CLI's contexts.
//
//	DIR/setup.json               what was asked for; a later run adds to it
//	DIR/nats-server.conf         least privilege, public keys only
//	DIR/<name>/key.json          private identity key of an app or service
//	DIR/<name>/trust.json        the other side's public keys
//	DIR/<name>/nats.nk           seed of its NATS user
//	DIR/<name>/kit.json          all of that in one document, for one secret
//	DIR/inspector/nats.nk        seeds of the nats CLI's two users
//	DIR/system/nats.nk
//	DIR/auditor/nats.nk          with Config.Audit, the seed of the one who reads the audit stream
//	DIR/jetstream/               and where the NATS server keeps that stream
//	DIR/nats/context/*.json      their contexts: XDG_CONFIG_HOME=DIR nats --context obo-inspector …
//
// Where one name is both a service and an app, the files of the role that came second begin with the role: app-key.json.
//
// A second run never replaces a key: it keeps the keys that are there, makes those that are missing, and writes the rest
// anew. To replace a key, move its file away first.
package setup
