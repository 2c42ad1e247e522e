// Command obo-broker runs the relay's NATS server from a nats-server.conf.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	status, err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		for fault := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(os.Stderr, "obo-broker: %s\n", fault)
		}
		status = max(status, 1)
	}
	os.Exit(status)
}
