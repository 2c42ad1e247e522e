package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/telemetry/export"
	"github.com/obo-relay/obo-relay/relay/version"
)

const command = "obo-worker"

const description = `Receives requests over NATS and hands them to the middleware app beside it, on behalf of the people who made them.

After -- it runs the middleware app itself: obo-worker -- uvicorn main:app. It waits until the app is ready, keeps its own secrets from it, stops it after the drain, and ends with its status.

SIGTERM and SIGINT drain it within 15 s; a second one ends it at once.`

// flags are also environment variables: --max-body is OBO_MAX_BODY.
type flags struct {
	Service      string `placeholder:"NAME" help:"Name of the service, as apps address it. Default: the kit's, else $$DATABRICKS_APP_NAME."`
	Forward      string `placeholder:"URL" help:"The middleware app. Default: http://127.0.0.1:$$DATABRICKS_APP_PORT."`
	Workspace    string `env:"OBO_WORKSPACE,DATABRICKS_HOST" placeholder:"URL" help:"The Databricks workspace, which says whose token it is."`
	UserLookup   string `enum:"on,off" default:"on" help:"Ask the workspace who the person is: on or off. Off, nobody verifies the tokens and no identity headers are set."`
	OpaqueTokens bool   `help:"Accept tokens that are not JWTs with an expiry, such as personal access tokens."`
	MaxInFlight  int    `default:"256" placeholder:"N" help:"Requests served at once; as many wait, more are refused. Default: 256."`
	MaxBody      int64  `placeholder:"BYTES" help:"Largest request body. Default: no limit."`
	identityFlags
	guardFlags
	routeFlags
	appFlags
	relay.Settings
	relay.LogSettings
	Telemetry export.Settings  `embed:""`
	Version   kong.VersionFlag `env:"-" help:"Print the version and exit."`
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

// serviceName is what the flag, the kit or the platform says.
func (f flags) serviceName(side *relay.Side) string {
	return cmp.Or(f.Service, side.Name, os.Getenv("DATABRICKS_APP_NAME"))
}

// upstream is the middleware app's URL, empty if nothing says it.
func (f flags) upstream() string {
	port := os.Getenv("DATABRICKS_APP_PORT")
	switch {
	case f.Forward == "" && port != "":
		return "http://127.0.0.1:" + port
	case f.Forward != "" && !strings.Contains(f.Forward, "://"):
		return "http://" + f.Forward
	}
	return f.Forward
}
