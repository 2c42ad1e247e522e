package main

import "github.com/obo-relay/obo-relay/deploy/doctor"

// doctorCommand looks at everything that a request needs.
type doctorCommand struct{ doctor.Command }

func (c *doctorCommand) Run(t *terminal) error {
	status, err := c.Execute(t.ctx, doctor.Terminal{Stdin: t.stdin, Stdout: t.stdout, Stderr: t.stderr})
	if err == nil && status != 0 {
		return exitStatus(status)
	}
	return err
}
