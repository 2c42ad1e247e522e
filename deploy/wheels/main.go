// Command wheels packs the commands of the relay for those who deploy them: Python wheels, whose binary is on PATH after pip
// install, and tarballs. It needs Go and nothing else; make wheels and make dist run it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "wheels:", err)
		os.Exit(1)
	}
}
