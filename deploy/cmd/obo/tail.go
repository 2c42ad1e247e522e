package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
)

// tailCommand prints requests as the NATS server sees them.
type tailCommand struct {
	Dir string `placeholder:"DIR" help:"Directory of obo init: NATS server, prefix and the inspector's key are taken from there where no flag says otherwise."`
	relay.NATSSettings
}

const (
	tailBuffer = 64 << 10 // messages
	tailSweep  = time.Second
)

// Run prints until the context ends.
func (c *tailCommand) Run(t *terminal) error {
	if err := c.fromDir(); err != nil {
		return err
	}
	cfg, subjects, err := c.Load()
	if err != nil {
		return err
	}
	up := make(chan struct{}, 1)
	cfg.Name, cfg.Log = "obo tail", slog.New(slog.NewTextHandler(t.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg.OnUp = func() {
		select {
		case up <- struct{}{}:
		default:
		}
	}
	nc, err := relay.Connect(cfg)
	if err != nil {
		return err
	}
	defer nc.Close()
	messages := make(chan *nats.Msg, tailBuffer)
	root := subjects.Root() + ".>"
	if _, err := nc.ChanSubscribe(root, messages); err != nil {
		return err
	}
	var unwritten error
	watch := newTraffic(subjects, func(line string) {
		_, err := fmt.Fprintln(t.stdout, line)
		unwritten = cmp.Or(unwritten, err)
	})
	sweep := time.NewTicker(tailSweep)
	defer sweep.Stop()
	for unwritten == nil {
		select {
		case <-t.ctx.Done():
			return nil
		case <-up:
			if err := nc.FlushTimeout(5 * time.Second); err == nil {
				if err := nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
					return fmt.Errorf("this NATS user may not look on: take the inspector's, with --dir or --nkey-file: %w", err)
				}
				fmt.Fprintf(t.stderr, "watching %s at %s; sizes are those of sealed messages\n", root, nc.ConnectedUrlRedacted())
			}
		case m := <-messages:
			watch.message(m, time.Now())
		case now := <-sweep.C:
			watch.sweep(now)
		}
	}
	return unwritten
}

// fromDir fills in what no flag says.
func (c *tailCommand) fromDir() error {
	if c.Dir == "" {
		return nil
	}
	d, err := setup.Read(c.Dir)
	if err != nil {
		return err
	}
	if c.NATS == "" {
		c.NATS, c.NATSTLSFirst = d.CLIURL(), d.TLSCertFile != ""
		c.NATSCAFile = cmp.Or(c.NATSCAFile, d.CAFile)
	}
	if c.NKeyFile+c.NKey+c.CredsFile+c.Creds == "" {
		c.NKeyFile = d.InspectorSeed()
	}
	c.SubjectPrefix = cmp.Or(c.SubjectPrefix, d.SubjectPrefix)
	return nil
}
