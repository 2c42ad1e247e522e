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
	ctx, cancel := context.WithCancel(ctx)
	attendant := make(chan struct{})
	go func() {
		defer close(attendant)
		attend(ctx, b, stdout, log)
	}()
	err = b.Run(ctx)
	cancel()
	<-attendant
	return err
}

// attend says where the broker serves and reloads it on SIGHUP, until ctx ends.
func attend(ctx context.Context, b *broker.Broker, stdout io.Writer, log *slog.Logger) {
	// Before the broker serves, SIGHUP would end the process.
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	select {
	case <-b.Ready():
		fmt.Fprintln(stdout, serving(b))
	case <-ctx.Done():
		return
	}
	for {
		select {
		case <-reload:
			if err := b.Reload(); err != nil {
				log.Error("the configuration was not reloaded, the old one stays", "error", err)
			} else {
				log.Info("configuration reloaded")
			}
		case <-ctx.Done():
			return
		}
	}
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
