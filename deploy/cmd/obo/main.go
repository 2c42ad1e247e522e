// Command obo sets a relay up and looks at it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(run(untilStopped(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// untilStopped ends with the first signal that stops a command. A second one ends the process at once, unless it says again
// that the terminal was closed: first the shell tells it, and when that is gone the system. Files are to be removed then too.
func untilStopped() context.Context {
	ctx, hangUp := context.WithCancel(context.Background())
	if !signal.Ignored(syscall.SIGHUP) { // by nohup
		hangups := make(chan os.Signal, 1)
		signal.Notify(hangups, syscall.SIGHUP)
		go func() { <-hangups; hangUp() }()
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { stop(); hangUp() })
	return ctx
}
