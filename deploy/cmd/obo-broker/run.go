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
)

// run serves until ctx ends. It prints one line to stdout once it serves; the log goes to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := parse(args, stdout, stderr)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	b, err := broker.New(broker.Config{
		ConfigFile:    f.Config,
		Port:          f.Port,
		WebSocketPort: f.WebsocketPort,
		MonitorPort:   f.MonitorPort,
		Log:           log,
	})
	if err != nil {
		return err
	}
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
