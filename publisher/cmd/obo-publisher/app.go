package main

import (
	"context"
	"io"
	"os"

	"github.com/obo-relay/obo-relay/relay/child"
)

// runWithApp runs the publisher, and the app if there is a command for it, and returns the exit code.
func (f flags) runWithApp(ctx context.Context, p *process, stdout io.Writer) (int, error) {
	words := f.Command.Words()
	if words == nil {
		return 0, p.run(ctx, stdout)
	}
	add := child.NoProxy(os.Environ())
	for _, r := range p.routes {
		add = append(add, r.variable()+"="+r.url())
	}
	listening := make(chan struct{})
	close(listening)
	cfg := child.Config{Words: words, Env: child.Environ(os.Environ(), words, add), Log: p.log}
	return child.RunClient(ctx, cfg, listening, func(ctx context.Context) error {
		return p.run(ctx, io.Discard) // standard output is the app's
	})
}
