//go:build unix && !linux

package child

import "errors"

func becomeSubreaper() error { return errors.New("on Linux only") }

func ordinary() {}

func spy() {}
