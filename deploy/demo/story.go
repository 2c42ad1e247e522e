package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// ErrStory is returned by Run when a line did not come out as the story says.
var ErrStory = errors.New("the demo did not come out as it should")

// Options say how to play the story.
type Options struct {
	Config
	Out   io.Writer // where the story is printed. Required.
	Color bool
}

// Run sets a stage, plays the story on it, prints it, and takes everything down again. It returns nil only if every line
// came out as the story says.
func Run(ctx context.Context, opts Options) error {
	begin := time.Now()
	log := newLogBuffer()
	if opts.Log == nil {
		opts.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	stage, err := Start(ctx, opts.Config)
	if err != nil {
		return fmt.Errorf("setting the stage: %w", err)
	}
	s := &story{stage: stage, print: printer{opts.Out, opts.Color}, log: log}
	s.play(ctx)
	if err := stage.Close(); err != nil {
		return fmt.Errorf("taking the stage down: %w", err)
	}
	took := time.Since(begin).Round(100 * time.Millisecond)
	s.print.line("")
	if s.failed > 0 {
		s.print.line(s.print.paint(red, fmt.Sprintf("%d of %d lines did not come out as the story says (%v).", s.failed, s.lines, took)))
		return ErrStory
	}
	s.print.line(s.print.paint(green, fmt.Sprintf("All %d lines came out as the story says, in %v. Nothing is left running.", s.lines, took)))
	return nil
}

// story plays and prints; each of its lines is a check.
type story struct {
	stage  *Stage
	print  printer
	log    *logBuffer
	lines  int
	failed int
}

func (s *story) play(ctx context.Context) {
	s.print.line(s.print.paint(bold, "obo-relay: a person's token from one app to the other") + "   " + s.print.paint(cyan, "SANDBOX"))
	s.print.line("Two people, two apps behind the platform's front proxies, one workspace, all on 127.0.0.1.")
	s.print.line(fmt.Sprintf("  alice is in %s and %s, bob in %s.", groupAdmins, groupAnalysts, groupAnalysts))
	s.attempts(ctx)
	if !s.relayed(ctx) {
		s.print.line("")
		s.print.line("The rest of the story needs the relay, and was not played.")
		return
	}
	s.listened(ctx)
	s.timeSplit(ctx)
	s.principals(ctx)
}

// check prints what came, and what was expected instead if that is something else.
func (s *story) check(what, got, want string) { s.expect(what, got, got == want, want) }

// expect is check for what is right in more than one way.
func (s *story) expect(what, got string, ok bool, want string) {
	s.lines++
	s.print.result(ok, what, got)
	if !ok {
		s.failed++
		s.print.columns("       ", 7, "  expected", want)
	}
}
