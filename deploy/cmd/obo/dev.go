package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/databricks/databricks-sdk-go/config"

	"github.com/obo-relay/obo-relay/deploy/dev"
	"github.com/obo-relay/obo-relay/deploy/local"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/child"
)

// devCommand runs a UI app on a developer's machine.
type devCommand struct {
	Service   []string `sep:"none" placeholder:"NAME=URL" help:"A middleware app that runs on this machine, and where: middleware=http://127.0.0.1:8000. May be repeated."`
	As        string   `placeholder:"PERSON" help:"Act as alice or bob in a sandbox, which is started too. Default: as the person who is signed in with the Databricks CLI."`
	Sandbox   string   `default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"With --as: where the sandbox listens, or the URL of one that runs. Default: 127.0.0.1:8080."`
	Profile   string   `env:"OBO_PROFILE,DATABRICKS_CONFIG_PROFILE" placeholder:"NAME" help:"Profile of the Databricks CLI. Default: the one of --workspace, or the CLI's default."`
	Workspace string   `env:"OBO_WORKSPACE,DATABRICKS_HOST" placeholder:"URL" help:"The workspace. Default: that of the profile."`
	App       string   `default:"ui" placeholder:"NAME" help:"The UI app's name. Default: ui."`
	Listen    string   `default:"127.0.0.1:8001" placeholder:"HOST:PORT" help:"Where the UI app's front proxy listens: loopback only. Default: 127.0.0.1:8001."`
	AppPort   int      `placeholder:"PORT" help:"Where the UI app itself listens; it finds the port in DATABRICKS_APP_PORT. Default: a free one."`
	relay.LogSettings
	Command child.Command `arg:"" optional:"" passthrough:"partial" name:"command" help:"After --: the UI app to run, its program and arguments. $$DATABRICKS_APP_PORT in them is filled in."`
}

// Run runs the app until it ends, and ends with its status.
func (c *devCommand) Run(t *terminal) error {
	child.OutliveReaders()
	cfg := dev.Config{
		App: c.App, Listen: c.Listen, AppPort: c.AppPort, Command: c.Command.Words(), Environ: os.Environ(),
		WorkspaceID: os.Getenv("DATABRICKS_WORKSPACE_ID"), Out: t.stderr, Log: c.Logger(t.stderr),
	}
	var faults []error
	for _, text := range c.Service {
		service, err := dev.ParseService(text)
		faults = append(faults, err)
		cfg.Services = append(cfg.Services, service) // also a faulty one, so that none is missing because of it
	}
	if err := errors.Join(append(faults, cfg.Validate())...); err != nil {
		return err
	}
	relay := local.New(cfg.Log) // the sandbox outlives the rest
	err := c.person(relay, &cfg)
	status := 1
	if err == nil {
		status, err = dev.Run(t.ctx, cfg)
	}
	if err = errors.Join(err, relay.Close()); err != nil {
		return errors.Join(err, whatToDo(err))
	}
	if status != 0 {
		return exitStatus(status)
	}
	return nil
}

// person says whose tokens it are, and of which workspace.
func (c *devCommand) person(r *local.Relay, cfg *dev.Config) error {
	if c.As == "" {
		return c.signedIn(cfg)
	}
	cfg.Sandbox = true
	if strings.Contains(c.Sandbox, "://") {
		cfg.Workspace = strings.TrimSuffix(c.Sandbox, "/")
		cfg.Tokens = dev.KeepTokens(func(ctx context.Context, _ bool) (relay.Token, error) {
			return askSandbox(ctx, cfg.Workspace, "--sandbox", c.As, 0)
		})
		return nil
	}
	workspace, listener, err := openSandbox(c.Sandbox, "--sandbox", c.App, 0)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w; if it is a sandbox, use it with --sandbox http://%s", err, c.Sandbox)
	case err != nil:
		return err
	}
	r.ServeOn(listener, withTokens(workspace, c.App))
	cfg.Workspace, cfg.WorkspaceID = workspace.URL(), workspace.ID()
	cfg.Tokens = dev.KeepTokens(func(context.Context, bool) (relay.Token, error) {
		text, err := workspace.Token(fullName(c.As), sandbox.TokenOptions{App: c.App})
		if err != nil {
			return relay.Token{}, fmt.Errorf("--as %q: want alice or bob", c.As)
		}
		return relay.NewToken(text)
	})
	return nil
}

// signedIn is the person of the Databricks CLI. The profile says which workspace that is.
func (c *devCommand) signedIn(cfg *dev.Config) error {
	cli := dev.CLI{Profile: c.Profile, Host: c.Workspace}
	cfg.Tokens, cfg.Workspace = cli.Tokens(), c.Workspace
	if c.Profile == "" && c.Workspace != "" {
		return nil
	}
	profile := &config.Config{Profile: c.Profile, ConfigFile: os.Getenv("DATABRICKS_CONFIG_FILE")}
	if err := config.ConfigFile.Configure(profile); err != nil {
		return fmt.Errorf("--profile (OBO_PROFILE, DATABRICKS_CONFIG_PROFILE): %w: databricks auth login makes one", err)
	}
	if profile.Host == "" {
		return errors.New("--workspace (OBO_WORKSPACE, DATABRICKS_HOST): nothing says which workspace: sign in with databricks auth login --host https://…, name a --profile, or work as --as alice in the sandbox")
	}
	cfg.Workspace = cmp.Or(strings.TrimSuffix(profile.Host, "/"), cfg.Workspace)
	cli.Profile, cli.Host = profile.Profile, ""
	cfg.Tokens = cli.Tokens()
	return nil
}
