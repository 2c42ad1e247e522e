package child

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// lastWait is for what should end at once: a killed child, and the parent's own part after it.
const lastWait = 500 * time.Millisecond

// part is one of the two that share a life.
type part interface {
	start() error
	stop(os.Signal)        // asks it to stop
	done() <-chan struct{} // closed when it has stopped
}

// life is that of parent and child, from the start of the first to the end of both.
type life struct {
	cfg           Config
	child         *process
	service       *service
	first, second part // the second uses the first, and so starts after it and stops before it

	usable       chan error // what came of waiting until the first can be used
	stopWaiting  context.CancelFunc
	firstDone    <-chan struct{} // nil while it does not run
	secondDone   <-chan struct{}
	secondBegun  bool
	signals      chan os.Signal
	asked        os.Signal // with which they are asked to stop; nil before
	deadline     *time.Timer
	killed       bool
	fault        error // the parent's, which ended it all
	faultsStatus int
}

func newLife(ctx context.Context, cfg Config, serve func(context.Context) error) *life {
	return &life{cfg: cfg, child: newProcess(cfg), service: newService(ctx, serve)}
}

// run starts the first part, waits until it can be used, starts the second, and returns when both have stopped.
func (l *life) run(ctx context.Context, waitUsable func(context.Context) error) (int, error) {
	defer l.service.cancel()
	l.signals = make(chan os.Signal, 8)
	signal.Notify(l.signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	defer signal.Stop(l.signals)
	if ctx.Err() != nil {
		return 0, nil // nothing has started
	}
	l.deadline = time.NewTimer(0)
	<-l.deadline.C
	defer l.deadline.Stop()
	if err := l.first.start(); err != nil {
		return startStatus(err), l.notStarted(err)
	}
	l.firstDone = l.first.done()
	waiting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.stopWaiting, l.usable = cancel, make(chan error, 1)
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		l.usable <- waitUsable(waiting)
	}()
	defer func() { cancel(); <-waited }()
	return l.loop(ctx)
}

func (l *life) loop(ctx context.Context) (int, error) {
	ended := ctx.Done()
	for l.firstDone != nil || l.secondDone != nil {
		select {
		case err := <-l.usable:
			l.begin(err)
		case <-ended:
			ended = nil
			if context.Cause(ctx) == context.Canceled { // else a signal ended it, which comes here too
				l.stop(syscall.SIGTERM)
			}
		case sig := <-l.signals:
			switch {
			case sig == syscall.SIGHUP:
				l.hangup()
			case l.asked != nil:
				return l.cutShort(sig)
			default:
				l.stop(sig)
			}
		case <-l.deadline.C:
			if l.killed || !l.childRuns() {
				l.cfg.Log.Warn("the time to stop is over")
				return l.result()
			}
			l.kill("the time to stop is over")
		case <-l.firstDone:
			l.firstDone = nil
			l.ended(l.first)
		case <-l.secondDone:
			l.secondDone = nil
			l.ended(l.second)
		}
	}
	return l.result()
}

func (l *life) hangup() {
	if !l.cfg.KeepHangup {
		l.child.signal(syscall.SIGHUP)
	}
}

// begin starts the second part, unless waiting for the first failed or all is over already.
func (l *life) begin(err error) {
	if l.asked != nil {
		return
	}
	status := 1
	if err == nil {
		l.secondBegun = true
		if err = l.second.start(); err == nil {
			l.secondDone = l.second.done()
			return
		}
		status, err = startStatus(err), l.notStarted(err)
	}
	l.fail(err, status)
	l.stop(syscall.SIGTERM)
}

// fail notes the first fault of the parent.
func (l *life) fail(err error, status int) {
	if l.fault == nil {
		l.fault, l.faultsStatus = err, status
	}
}

// stop asks the second part to stop, and the first after it has.
func (l *life) stop(sig os.Signal) {
	if l.asked != nil {
		return
	}
	l.ask(sig)
	if l.secondDone != nil {
		l.second.stop(sig)
	} else if l.firstDone != nil {
		l.first.stop(sig)
	}
}

func (l *life) ask(sig os.Signal) {
	l.asked = sig
	l.stopWaiting()
	l.deadline.Reset(l.cfg.StopTime)
}

// ended is called when a part has stopped, asked or not: now the other does.
func (l *life) ended(p part) {
	if l.asked == nil {
		l.endedUnasked(p)
		l.ask(syscall.SIGTERM)
	}
	if l.firstDone != nil {
		l.first.stop(l.asked)
	}
	if l.secondDone != nil {
		l.second.stop(l.asked)
	}
}

func (l *life) endedUnasked(p part) {
	switch {
	case p == part(l.service):
		if l.service.err != nil {
			l.fail(l.service.err, 1)
		}
	case p == l.first && !l.secondBegun:
		status := l.child.exitStatus()
		l.fail(fmt.Errorf("the app ended with status %d before it was ready: see what it printed", status), max(status, 1))
	default:
		l.cfg.Log.Warn("app ended", "status", l.child.exitStatus())
	}
}

// kill ends the child's process group. What is left after lastWait is left.
func (l *life) kill(reason string) {
	l.cfg.Log.Warn("the app is killed", "reason", reason)
	l.killed = true
	l.child.kill()
	l.deadline.Reset(lastWait)
}

// cutShort is for those who do not want to wait.
func (l *life) cutShort(sig os.Signal) (int, error) {
	l.kill("a second signal came")
	if l.childRuns() {
		select {
		case <-l.child.done():
		case <-l.deadline.C:
		}
	}
	return 128 + int(sig.(syscall.Signal)), nil // every os.Signal is one
}

func (l *life) childRuns() bool {
	return l.first == part(l.child) && l.firstDone != nil || l.second == part(l.child) && l.secondDone != nil
}

// result is the exit status, and the fault that it comes from.
func (l *life) result() (int, error) {
	if l.fault != nil {
		return l.faultsStatus, l.fault
	}
	status := l.child.exitStatus()
	if l.childRuns() {
		status = 128 + int(syscall.SIGKILL)
	}
	select {
	case <-l.service.gone:
		if l.service.err != nil {
			return max(status, 1), l.service.err
		}
	default: // not started, or too slow
	}
	return status, nil
}

func (l *life) notStarted(err error) error {
	return fmt.Errorf("the app's command cannot be started: %w", err)
}
