// Package dev runs a UI app on a developer's machine as it runs on the platform, without deploying anything: behind a front
// proxy that tells it who is calling, and with the relay to each middleware app, broker included, in one process with keys
// that are thrown away at the end.
//
//	browser ──▶ front proxy ──▶ UI app ──▶ publisher ── broker ── worker ──▶ middleware app
//	              + token                                           │
//	                                                                └──▶ workspace, as the person
//
// There is no sign-in: whoever reaches the front proxy's port acts as the one person whose token it has. So it listens on
// loopback only, refuses requests that a web page of another origin makes, and says so.
package dev
