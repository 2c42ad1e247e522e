package main

import (
	"fmt"
	"io"

	"github.com/alecthomas/kong"

	"github.com/obo-relay/obo-relay/relay/child"
	"github.com/obo-relay/obo-relay/relay/version"
)

const description = `Runs the relay's NATS server from a nats-server.conf, as "obo init" writes it.

After -- it runs a client of it, when it serves: obo-broker --config FILE -- obo-worker -- uvicorn main:app. The server stops after the client, and ends with its status.

On Databricks Apps it takes the app's port, and apps connect to it with --nats app:NAME. Let it run as exactly one instance.

SIGTERM and SIGINT give clients notice and stop it; SIGHUP reads the configuration again.`

// flags are also environment variables: --websocket-port is OBO_WEBSOCKET_PORT.
type flags struct {
	Config        string `required:"" type:"path" placeholder:"FILE" help:"nats-server.conf to serve from."`
	Port          int    `placeholder:"PORT" help:"Listen for NATS clients here, not at the configured port; -1 takes a free one."`
	WebsocketPort int    `placeholder:"PORT" help:"Listen for NATS over WebSocket here, not at the configured port, where a platform assigns one; -1 takes a free one."`
	AppListen     string `default:"auto" placeholder:"[HOST:]PORT" help:"Be an app of a platform that gives it one port: NATS over WebSocket and a page for people, here. auto: at $$DATABRICKS_APP_PORT if that is set. off: not at all. Default: auto."`
	Behind        string `placeholder:"URL" help:"The app that gets every other request to that port, when this one stands before another app: http://127.0.0.1:8001, say. It finds its port in DATABRICKS_APP_PORT."`
	MonitorPort   int    `name:"monitor" placeholder:"PORT" help:"Serve /healthz, /varz and /connz over HTTP on loopback; -1 takes a free one."`

	Version kong.VersionFlag `env:"-" help:"Print the version and exit."`
	Command child.Command    `arg:"" optional:"" passthrough:"partial" name:"command" help:"After --: a client of this server to run, its program and arguments."`
}

func parse(args []string, stdout, stderr io.Writer) (flags, error) {
	var f flags
	parser, err := kong.New(&f,
		kong.Name("obo-broker"),
		kong.Description(description),
		kong.DefaultEnvars("OBO"),
		kong.Vars{"version": version.Build()},
		kong.Writers(stdout, stderr))
	if err != nil {
		return f, fmt.Errorf("flags: %w", err)
	}
	_, err = parser.Parse(args)
	return f, err
}
