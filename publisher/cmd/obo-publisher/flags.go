package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/child"
	"github.com/obo-relay/obo-relay/relay/telemetry/export"
	"github.com/obo-relay/obo-relay/relay/version"
)

const command = "obo-publisher"

const description = `Lets the UI app beside it call services over NATS on behalf of the person whose token the call carries.

It serves each service on an address of its own on loopback and prints them as OBO_URL_<SERVICE>=http://127.0.0.1:PORT.

After -- it runs the UI app itself: obo-publisher -- streamlit run app.py. The app finds the addresses in its environment and the secrets of the relay gone from it; signals are passed on, and the publisher ends after the app, with its status.

SIGTERM and SIGINT let calls end within 15 s; a second one ends it at once.`

// flags are also environment variables: --trust-broker is OBO_TRUST_BROKER.
type flags struct {
	App          string        `placeholder:"NAME" help:"Name of the app, as services know it. Default: the kit's, else $$DATABRICKS_APP_NAME."`
	Route        []string      `placeholder:"SERVICE[=127.0.0.1:PORT]" help:"Serve this service there, or on a free port; may be repeated. Default: every service of the trust file, on free ports."`
	Timeout      time.Duration `default:"60s" placeholder:"TIME" help:"Longest time to the first byte of a response, after the last part of an upload; a request's own Obo-Timeout, in seconds, takes its place. Default: 60s."`
	IdleTimeout  time.Duration `default:"5m" placeholder:"TIME" help:"Longest silence within a response; its length is not limited. Default: 5m."`
	MaxInFlight  int           `default:"1024" placeholder:"N" help:"Requests under way; more are refused. Default: 1024."`
	TrustBroker  bool          `help:"Believe the NATS server when it says that nobody received a request, so that it may be tried elsewhere."`
	OpaqueTokens bool          `help:"Accept tokens that are not JWTs with an expiry, such as personal access tokens."`
	RequireRelay *bool         `negatable:"" help:"Start only with a relay that can work: settings without a fault, one NATS server that can be reached, and workers, if any run, that the trust file names. With --require-relay=false faults are logged, the app runs, and calls are answered 503. Default: false with an app to run; without one, faulty settings end the publisher."`
	relay.Settings
	relay.LogSettings
	Telemetry export.Settings  `embed:""`
	Version   kong.VersionFlag `env:"-" help:"Print the version and exit."`
	Command   child.Command    `arg:"" optional:"" passthrough:"partial" name:"command" help:"After --: the UI app to run, its program and arguments."`
}

// parse reads the flags. code is the exit code of a command that ends with them, -1 if it goes on.
func parse(args []string, stdout, stderr io.Writer) (f flags, code int) {
	code = -1
	parser, err := kong.New(&f,
		kong.Name(command),
		kong.Description(description),
		kong.DefaultEnvars("OBO"),
		kong.Vars{"version": version.Build()},
		kong.Exit(func(status int) { code = max(code, status) }),
		kong.Writers(stdout, stderr))
	if err == nil {
		_, err = parser.Parse(args)
	}
	if err != nil && code < 0 {
		fmt.Fprintf(stderr, "%s: ERROR: %v (see %s --help)\n", command, err, command)
		return f, 2
	}
	return f, code
}

// needsSettings reports whether faulty settings are the end. An app that is run is more than its relay.
func (f flags) needsSettings() bool {
	if f.RequireRelay != nil {
		return *f.RequireRelay
	}
	return len(f.Command) == 0
}

// appName is what the flag, the kit or the platform says.
func (f flags) appName(side *relay.Side) string {
	return cmp.Or(f.App, side.Name, os.Getenv("DATABRICKS_APP_NAME"))
}
