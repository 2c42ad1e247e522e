package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/obo-relay/obo-relay/deploy/local"
	"github.com/obo-relay/obo-relay/deploy/setup"
)

// UpOptions say how the stage stays up.
type UpOptions struct {
	Config
	Out   io.Writer // where the addresses are printed. Required.
	Color bool
	// Listen is the page's address, loopback only. Defaults to "127.0.0.1:0", a free port.
	Listen string
	// Command is how this program is called, for the commands to copy. Defaults to "obo".
	Command string
}

// Up sets the stage, serves a page about it, and stays until ctx ends.
func Up(ctx context.Context, opts UpOptions) (err error) {
	if err := foreign(opts.Dir); err != nil {
		return err
	}
	listener, err := local.Listen(cmp.Or(opts.Listen, "127.0.0.1:0"), "the sandbox has no passwords")
	if err != nil {
		return err
	}
	if opts.Dir == "" {
		if opts.Dir, err = os.MkdirTemp("", "obo-up-"); err != nil {
			return errors.Join(err, listener.Close())
		}
		defer func() { err = errors.Join(err, os.RemoveAll(opts.Dir)) }()
	}
	release, err := tokenFilesIn(opts.Dir).claim()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer release()
	stage, err := Start(ctx, opts.Config)
	if err != nil {
		return errors.Join(fmt.Errorf("setting the stage: %w", err), listener.Close())
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	files := newTokenFiles(stage)
	if err := files.write(); err != nil {
		return errors.Join(err, listener.Close())
	}
	stage.Run("token files", files.run)
	page := newPage(stage, newCommands(stage, files, cmp.Or(opts.Command, "obo")), listener.Addr().String())
	stage.ServeOn(listener, page)
	announce(printer{opts.Out, opts.Color}, stage, "http://"+listener.Addr().String())
	select {
	case <-ctx.Done():
		return nil
	case err := <-stage.Failed():
		return err
	}
}

// foreign reports a directory that holds another relay, whose kits and server's configuration would name this one's port.
func foreign(dir string) error {
	if dir == "" {
		return nil
	}
	_, none := setup.Read(dir)
	if _, err := os.Stat(tokenFilesIn(dir).token(VisitorAlice)); err == nil || none != nil {
		return nil
	}
	return fmt.Errorf("%s holds the files of another relay, which would lead here from now on: choose another directory", dir)
}

// announce prints where everything is.
func announce(p printer, s *Stage, page string) {
	p.line(p.paint(bold, "obo-relay is up") + "   " + p.paint(cyan, "SANDBOX"))
	p.line("")
	for _, row := range [][2]string{
		{"look at", page},
		{"UI app", s.UI + " (its front proxy: sign in as alice or bob)"},
		{"middleware app", s.Front + " (its front proxy)"},
		{"sidecar", s.Sidecar + " ($OBO_URL_MIDDLEWARE)"},
		{"workspace", s.Workspace.URL()},
		{"NATS", s.NATS},
		{"files", s.Files.Config.Dir},
	} {
		p.line(fmt.Sprintf("  %-15s %s", row[0], row[1]))
	}
	p.line("")
	p.line("Everything listens on this machine only. Stop it with Ctrl-C.")
}
