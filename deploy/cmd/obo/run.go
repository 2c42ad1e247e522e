package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/obo-relay/obo-relay/deploy/demo"
	"github.com/obo-relay/obo-relay/deploy/doctor"
	"github.com/obo-relay/obo-relay/relay/child"
	"github.com/obo-relay/obo-relay/relay/version"
)

const command = "obo"

const description = `Sets a relay up and looks at it.

Every flag is an environment variable too: --kit-file is OBO_KIT_FILE.`

// commands are the subcommands, each in a file of its own with a method Run(*terminal) error.
type commands struct {
	Init    initCommand    `cmd:"" help:"Make keys, trust files, kits, NATS users and nats-server.conf."`
	Call    callCommand    `cmd:"" help:"Send one request to a service, with a person's token."`
	Tail    tailCommand    `cmd:"" help:"Print one line for each finished request."`
	Tunnel  tunnelCommand  `cmd:"" help:"Give the nats CLI a local port that leads to a broker app."`
	Keys    keysCommand    `cmd:"" help:"Replace identity keys and NATS users without losing a request; list them."`
	Remove  removeCommand  `cmd:"" help:"Take an app or a service out of a relay, with its keys and NATS user."`
	Policy  policyCommand  `cmd:"" help:"Check a policy file, or say what it decides."`
	Sandbox sandboxCommand `cmd:"" help:"Run a stand-in for a workspace, with alice and bob."`
	Dev     devCommand     `cmd:"" help:"Run a UI app on this machine as on the platform, with the relay to its middleware apps."`
	Doctor  doctorCommand  `cmd:"" help:"Look at everything that a request needs, step by step, with a remedy for each fault."`
	Demo    demoCommand    `cmd:"" help:"Play the whole story on this machine, check each line of it, and exit."`
	Up      upCommand      `cmd:"" help:"The stage of the demo, staying, with a page to click through."`

	Version kong.VersionFlag `env:"-" help:"Print the version and exit."`
}

// terminal is what a command runs in.
type terminal struct {
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
	color          bool // stdout shows colours
}

// checked remembers why something could not be written, since few commands look. Whoever stops reading knows it.
type checked struct {
	io.Writer
	err error
}

func (c *checked) Write(p []byte) (int, error) {
	n, err := c.Writer.Write(p)
	if c.err == nil && !errors.Is(err, syscall.EPIPE) {
		c.err = err
	}
	return n, err
}

// exitStatus ends a command that has said everything already.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// run returns the exit code: 1 for faults, 2 for flags that cannot be read.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if err := child.Hide(); err != nil {
		fmt.Fprintf(stderr, "%s: warning: other processes of this user can read the secrets of this one: %v\n", command, err)
	}
	code := -1
	parser, err := kong.New(&commands{},
		kong.Name(command),
		kong.Description(description),
		kong.DefaultEnvars("OBO"),
		kong.Vars{"version": version.Build()},
		kong.Exit(func(status int) { code = max(code, status) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Writers(stdout, stderr))
	var selected *kong.Context
	if err == nil {
		selected, err = parser.Parse(args)
	}
	switch {
	case code >= 0:
		return code
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v (see %s --help)\n", command, err, reached(err))
		return 2
	}
	out := &checked{Writer: stdout}
	err = selected.Run(&terminal{ctx, stdin, out, stderr, demo.ColorFor(stdout, os.Getenv)})
	if status, ok := errors.AsType[exitStatus](err); ok {
		return int(status)
	}
	if err == nil {
		err = out.err
	}
	if err != nil {
		name := called(selected.Selected())
		for fault := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(stderr, "%s: %s\n", name, doctor.OneLine(fault))
		}
		return 1
	}
	return 0
}

// reached is the command whose flags could not be read, as far as it was named.
func reached(err error) string {
	if p, ok := errors.AsType[*kong.ParseError](err); ok && p.Context != nil && p.Context.Selected() != nil {
		return called(p.Context.Selected())
	}
	return command
}

func called(n *kong.Node) string {
	return strings.TrimSuffix(n.FullPath(), " run") // the default of obo sandbox
}
