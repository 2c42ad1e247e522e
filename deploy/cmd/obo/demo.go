package main

import (
	"os/signal"
	"syscall"

	"github.com/obo-relay/obo-relay/deploy/demo"
)

// demoCommand plays the story of the relay on this machine.
type demoCommand struct{}

// Run prints the story; an error means that a line of it did not come out as it should.
func (*demoCommand) Run(t *terminal) error {
	signal.Ignore(syscall.SIGPIPE) // obo demo | head: it ends as always, and removes its files
	return demo.Run(t.ctx, demo.Options{Out: t.stdout, Color: t.color})
}
