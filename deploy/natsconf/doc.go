// Package natsconf writes the nats-server.conf of a relay, with least privilege, and the nats CLI contexts to look
// at it with.
//
// One account, OBO, holds everyone on the relay: a user per app, a user per service, and one inspector; with an
// audit stream also one auditor, who reads that stream. The system account, SYS, is apart and has one user. Users are nkeys; the configuration holds only their public halves and is
// no secret.
//
// Permissions are static allow-lists and nothing else. nats-server's allow_responses overrides publish denies, so a
// worker that had it could be steered by the reply subject of a request, for example into purging a stream; it is
// never written here. Nor is no_auth_user, a subject mapping or a service import: those rewrite subjects that the
// relay seals.
//
// What the broker can enforce is only the outer wall. Whatever passes it, the relay's own sealing decides: a
// request that was injected does not open, a reply that was forged is dropped.
package natsconf
