package relaytest

import (
	"os"
	"regexp"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Logged is the testscript command "logged FILE REGEXP": it waits until a program has written such a line.
func Logged(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: logged file regexp")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(Patience)
	for {
		text, err := os.ReadFile(ts.MkAbs(args[0])) // the program may not have made it yet
		if pattern.Match(text) {
			return
		}
		select {
		case <-poll.C:
		case <-deadline:
			ts.Fatalf("%s lacks %s: %v\n%s", args[0], args[1], err, text)
		}
	}
}
