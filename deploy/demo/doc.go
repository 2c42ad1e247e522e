// Package demo plays the story that obo-relay was written for, on one machine and with real parts: a sandbox workspace,
// the platform's front proxies, a UI app, a middleware app, and between the two apps broker, publisher and worker. All of
// it listens on loopback only, on free ports.
//
//	browser ──▶ front proxy ──▶ UI app ──▶ front proxy ──▶ middleware app      the person is lost on the way
//	                              │                          ▲        │
//	                              └▶ sidecar ─▶ NATS ─▶ worker        └──▶ workspace, as the person
//
// [Start] sets the stage. [Run] plays the story on it line by line, each line with what it expects, and tells whether all
// came out so: "obo demo". [Up] keeps the stage up, with a page to click through: "obo up".
package demo
