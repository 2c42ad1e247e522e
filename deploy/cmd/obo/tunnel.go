package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/deploy/dev"
	"github.com/obo-relay/obo-relay/deploy/doctor"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

// tunnelCommand lets programs that speak NATS over TCP, as the nats CLI, reach a broker app.
type tunnelCommand struct {
	App       string `default:"obo-broker" placeholder:"NAME" help:"The broker app. Default: obo-broker."`
	URL       string `name:"url" placeholder:"URL" help:"Its address, instead of its name."`
	Listen    string `default:"127.0.0.1:4222" placeholder:"HOST:PORT" help:"Where NATS clients connect: loopback only. Default: 127.0.0.1:4222, where the contexts of obo init look."`
	Profile   string `env:"OBO_PROFILE,DATABRICKS_CONFIG_PROFILE" placeholder:"NAME" help:"Profile of the Databricks CLI, whose token opens the app's front proxy."`
	TokenFile string `placeholder:"FILE" help:"A token instead of the Databricks CLI's, in a file that its owner only may read. It is read again at each connection."`
}

// Run serves until the context ends.
func (c *tunnelCommand) Run(t *terminal) error {
	if host, _, err := net.SplitHostPort(c.Listen); err != nil || !relay.Loopback(host) {
		return fmt.Errorf("--listen %q: want a loopback address, for example 127.0.0.1:4222: whoever reaches it goes in with your token", c.Listen)
	}
	door, err := c.door(t.ctx)
	if err != nil {
		return err
	}
	asked, cancel := context.WithTimeout(t.ctx, enterTimeout)
	status, err := door.Status(asked)
	cancel()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("%w: stop the program that listens there, or choose another address with --listen", err)
	}
	fmt.Fprintf(t.stdout, "nats://%s leads to %s, server %s\n", listener.Addr(), door.Name(), doctor.OneLine(status.ServerID))
	return tunnel{door, t.stderr}.serve(t.ctx, listener)
}

// door is the way to the app, opened with the developer's token.
func (c *tunnelCommand) door(ctx context.Context) (*brokerapp.Door, error) {
	cli := databricksCLI{c.Profile}
	cfg := brokerapp.Config{Address: c.URL, Tokens: developerTokens{dev.CLI{Profile: c.Profile}.Tokens()}}
	if c.TokenFile != "" {
		token, err := tokenFile(c.TokenFile).Token(ctx)
		if err != nil {
			return nil, err
		}
		cfg.Tokens = fixedToken(token)
		if info, err := os.Stat(c.TokenFile); err == nil && info.Mode().IsRegular() { // a pipe can be read only once
			cfg.Tokens = tokenFile(c.TokenFile)
		}
	}
	if cfg.Address == "" {
		app, err := cli.app(ctx, c.App)
		if err != nil {
			return nil, err
		}
		if app.URL == "" {
			return nil, fmt.Errorf("app %s has no URL yet: start it", c.App)
		}
		cfg.Address = app.URL
	}
	return brokerapp.New(cfg)
}

// enterTimeout is generous: the Databricks CLI may have to renew its token.
var enterTimeout = 30 * time.Second

// tunnel carries connections through a door.
type tunnel struct {
	door   *brokerapp.Door
	stderr io.Writer
}

// serve returns when the context ends or no more connections can be accepted, and those there are are closed.
func (t tunnel) serve(ctx context.Context, listener net.Listener) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() }) // Accept then returns
	defer stop()
	for {
		local, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		all.Go(func() {
			if err := t.carry(ctx, local); err != nil && ctx.Err() == nil {
				fmt.Fprintln(t.stderr, "obo tunnel:", doctor.OneLine(err.Error()))
			}
		})
	}
}

// carry takes one connection through; its end on one side ends the other.
func (t tunnel) carry(ctx context.Context, local net.Conn) error {
	defer local.Close()
	dial, cancel := context.WithTimeout(ctx, enterTimeout)
	remote, err := t.door.Dial(dial)
	cancel()
	if err != nil {
		return err
	}
	hangUp := sync.OnceFunc(func() { _ = errors.Join(local.Close(), remote.Close()) })
	defer context.AfterFunc(ctx, hangUp)()
	defer hangUp()
	back := make(chan struct{})
	go func() {
		defer close(back)
		defer hangUp()
		_, _ = io.Copy(local, remote) // its error is the end
	}()
	_, _ = io.Copy(remote, local)
	hangUp()
	<-back
	return nil
}
