package child

import (
	"cmp"
	"context"
	"log/slog"
	"time"
)

// Config is the child's.
type Config struct {
	Words []string     // the program and its arguments. Required
	Env   []string     // its whole environment, see Environ. Required
	Log   *slog.Logger // Defaults to slog.Default()

	// KeepHangup says that SIGHUP is for the parent itself, which handles it, and not passed on.
	KeepHangup bool
	// KillRest kills what the child leaves behind in its process group when it has ended, where it is not a container's end
	// that does.
	KillRest bool
	// StopTime is from the first signal to the moment when the child is killed. Defaults to 14 s, since platforms kill
	// everything after 15.
	StopTime time.Duration
}

func (c Config) withDefaults() Config {
	c.Log = cmp.Or(c.Log, slog.Default())
	c.StopTime = cmp.Or(c.StopTime, 14*time.Second)
	return c
}

// RunServer runs a child that the parent calls: when the child is ready, serve runs; when a signal comes or ctx ends, the
// context of serve ends, and when serve has returned the child is told to stop. The exit status is the package's; err is to
// be told before.
func RunServer(ctx context.Context, cfg Config, ready Readiness, serve func(context.Context) error) (status int, err error) {
	cfg = cfg.withDefaults()
	if ready.look(ctx) == nil {
		cfg.Log.Warn("something answers at the app's address before the app was started: requests may go to another program", "address", ready.address())
	}
	l := newLife(ctx, cfg, serve)
	l.first, l.second = l.child, l.service
	return l.run(ctx, func(ctx context.Context) error {
		if err := ready.wait(ctx); err != nil {
			return err
		}
		cfg.Log.Info("app is ready", "address", ready.address())
		return nil
	})
}

// RunClient runs a child that calls the parent: serve runs, and when up is closed the child starts; when a signal comes or
// ctx ends, the child is told to stop, and when it has ended so does the context of serve. The exit status is the package's;
// err is to be told before.
func RunClient(ctx context.Context, cfg Config, up <-chan struct{}, serve func(context.Context) error) (status int, err error) {
	cfg = cfg.withDefaults()
	l := newLife(ctx, cfg, serve)
	l.first, l.second = l.service, l.child
	return l.run(ctx, func(ctx context.Context) error {
		select {
		case <-up:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}
