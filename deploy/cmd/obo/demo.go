package main

import (
	"os"

	"github.com/obo-relay/obo-relay/deploy/demo"
)

// demoCommand plays the story of the relay on this machine.
type demoCommand struct{}

// Run prints the story; an error means that a line of it did not come out as it should.
func (*demoCommand) Run(t *terminal) error {
	return demo.Run(t.ctx, demo.Options{Out: t.stdout, Color: demo.ColorFor(t.stdout, os.Getenv)})
}
