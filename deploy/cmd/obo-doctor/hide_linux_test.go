package main

import (
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Other processes of the same user cannot read the memory of this one, in which tokens and keys are.
func TestHides(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"--help"}, strings.NewReader(""), io.Discard, io.Discard); code != 0 {
		t.Fatal(code)
	}
	if readable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || readable != 0 {
		t.Errorf("readable: %d, %v", readable, err)
	}
}
