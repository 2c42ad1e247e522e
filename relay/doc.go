// Package relay is the obo/1 protocol: how a person's HTTP request and OAuth token cross a NATS server that neither side
// trusts. PROTOCOL.md, beside this file, is normative; this package is what publisher and worker share.
//
// # The flow
//
// A worker process makes an [InstanceKey] in memory and announces it, signed with its service's [Identity], as an
// [Announcement]. A publisher that finds the signature in its [Trust] seals the person's [Token] to that key in a grant,
// signed with the app's identity ([SealGrant], [Opener]). From the grant's secret both derive one key for each request and
// one for each reply, and a [Stream] carries the HTTP message as sealed frames.
//
// # Trust boundaries
//
// NATS sees subjects, sizes, times and the [Hints]. It never sees a token, a query, a header or a body, and what it
// alters, repeats or invents does not open. The publisher process sees the tokens of its app's callers, the worker
// process those of its service's. A token is opened only by the process that it was sealed to.
//
// # Compatibility
//
// The numbers in the subject (v1) and in the first byte of each frame name the format. Within one number every
// implementation of PROTOCOL.md understands every other.
package relay
