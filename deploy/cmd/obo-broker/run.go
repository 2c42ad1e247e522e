package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/relay/child"
)

// run serves until ctx ends, and returns the exit code. It prints one line to stdout once it serves; the log goes to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (int, error) {
	child.Slack()
	readable := child.Hide()
	f, err := parse(args, stdout, stderr)
	if err != nil {
		return 2, fmt.Errorf("%w (see obo-broker --help)", err)
	}
	child.OutliveReaders()
	log := slog.New(slog.NewTextHandler(stderr, nil))
	if readable != nil {
		log.Warn("other processes of this user can read the secrets of this one", "error", readable)
	}
	app, err := f.app()
	if err != nil {
		return 1, err
	}
	b, err := broker.New(broker.Config{
		App:           app,
		ConfigFile:    f.Config,
		Port:          f.Port,
		WebSocketPort: f.WebsocketPort,
		MonitorPort:   f.MonitorPort,
		Log:           log,
	})
	if err != nil {
		return 1, err
	}
	words := f.Command.Words()
	if words == nil {
		return 0, serve(ctx, b, stdout, log)
	}
	cfg := child.Config{Words: words, Env: child.Environ(os.Environ(), words, childVariables(b, app, os.Getenv)), Log: log, KeepHangup: true}
	return child.RunClient(ctx, cfg, b.Ready(), func(ctx context.Context) error {
		return serve(ctx, b, stderr, log) // standard output is the client's
	})
}

// serve runs the broker until ctx ends; SIGHUP reads its configuration again.
func serve(ctx context.Context, b *broker.Broker, stdout io.Writer, log *slog.Logger) error {
	// Before the broker serves, SIGHUP must not end the process either.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	ready := b.Ready()
	for {
		select {
		case <-ready:
			fmt.Fprintln(stdout, serving(b))
			ready = nil
		case <-hup:
			reload(b, log)
		case err := <-done:
			return err
		}
	}
}

func reload(b *broker.Broker, log *slog.Logger) {
	if err := b.Reload(); err != nil {
		log.Error("the configuration was not reloaded, the old one stays", "error", err)
		return
	}
	log.Info("configuration reloaded")
}

func serving(b *broker.Broker) string {
	urls := []string{b.ClientURL()}
	for _, url := range []string{b.WebSocketURL(), b.MonitorURL()} {
		if url != "" {
			urls = append(urls, url)
		}
	}
	return "obo-broker serves at " + strings.Join(urls, " and ")
}
