package child

import (
	"errors"
	"fmt"
)

// Command is what stands after -- on a command line. As kong fills it, the field's tags are
//
//	arg:"" optional:"" passthrough:"partial"
//
// and the first word is the -- itself.
type Command []string

// Validate wants the --, so that a misspelt flag or value is not run as a program. kong calls it.
func (c Command) Validate() error {
	switch {
	case len(c) == 0:
		return nil
	case c[0] != "--":
		return fmt.Errorf("unexpected argument %q: the app's command goes after --", c[0])
	case len(c) == 1 || c[1] == "":
		return errors.New("nothing after --: want the app's command and its arguments")
	}
	return nil
}

// Words are the program and its arguments, none without a command.
func (c Command) Words() []string {
	if len(c) == 0 {
		return nil
	}
	return c[1:]
}
