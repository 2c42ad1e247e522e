package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/obo-relay/obo-relay/deploy/doctor"
	"github.com/obo-relay/obo-relay/relay/child"
	"github.com/obo-relay/obo-relay/relay/version"
)

const command = "obo-doctor"

// run returns the exit code: that of the report, 1 for faults, 2 for flags that cannot be read.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if err := child.Hide(); err != nil {
		fmt.Fprintf(stderr, "%s: warning: other processes of this user can read the secrets of this one: %v\n", command, err)
	}
	code := -1
	var c struct {
		doctor.Command
		Version kong.VersionFlag `env:"-" help:"Print the version and exit."`
	}
	parser, err := kong.New(&c,
		kong.Name(command),
		kong.Description("Looks at everything that a request needs, step by step, with a remedy for each fault."),
		kong.DefaultEnvars("OBO"),
		kong.Vars{"version": version.Build()},
		kong.Exit(func(status int) { code = max(code, status) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(stdout, stderr))
	if err == nil {
		_, err = parser.Parse(args)
	}
	switch {
	case code >= 0:
		return code
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v (see %s --help)\n", command, err, command)
		return 2
	}
	status, err := c.Execute(ctx, doctor.Terminal{Stdin: stdin, Stdout: stdout, Stderr: stderr})
	if err != nil {
		for fault := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(stderr, "%s: %s\n", command, doctor.OneLine(fault))
		}
		return 1
	}
	return status
}
