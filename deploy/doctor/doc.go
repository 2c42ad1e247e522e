// Package doctor looks, step by step, at everything that has to hold for a request to cross the relay: the environment, the
// person's token, the workspace, the way to NATS, its users and permissions, clocks, trust on both sides, workers, and a
// request itself. Each step has a verdict, and what is wrong has a remedy.
//
// It changes nothing. It sends requests to the service as the person (GET only), and to NATS messages that nobody receives
// or that everybody drops. A report holds no secret.
package doctor
