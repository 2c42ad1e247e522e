// Package hostile is a broker that nobody should trust, for tests: a man in the middle between an end and a real
// nats-server. It speaks the NATS client protocol, passes on what it understands, and lets a test decide what becomes of each
// message: Door.Script drops, holds back, repeats, reorders and alters what passes, Door.Send says what nobody has said, and
// Door.Cut, Kill and Revive break connections. Everything that passes is recorded.
//
// An end whose NATS URL is a door's sees what whoever runs the broker lets it see.
package hostile
