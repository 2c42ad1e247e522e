package main

import (
	"context"
	"net/url"
	"os"
	"time"

	"github.com/obo-relay/obo-relay/relay/child"
)

// appDrainTimeout is for a drain that leaves the app some of the 15 s.
const appDrainTimeout = 12 * time.Second

// appFlags say how the middleware app is run, if it is.
type appFlags struct {
	ReadyPath    string        `placeholder:"PATH" help:"Of an app that is run: wait until a GET of this path is answered with a status under 500, for example /health. Default: until its port accepts connections."`
	ReadyTimeout time.Duration `default:"60s" placeholder:"TIME" help:"Longest wait for that. Default: 60s."`
	Command      child.Command `arg:"" optional:"" passthrough:"partial" name:"command" help:"After --: the middleware app to run, its program and arguments."`
}

func (f flags) readiness() child.Readiness {
	base, err := url.Parse(f.upstream())
	if err != nil { // told with the handler
		base = &url.URL{}
	}
	return child.Readiness{URL: base, Path: f.ReadyPath, Timeout: f.ReadyTimeout}
}

// drainTimeout is the worker's; 0 for its own default.
func (f flags) drainTimeout() time.Duration {
	if len(f.Command) == 0 {
		return 0
	}
	return appDrainTimeout
}

// runWithApp runs the worker, and the app if there is a command for it, and returns the exit code.
func (f flags) runWithApp(ctx context.Context, p *process) (int, error) {
	words := f.Command.Words()
	if words == nil {
		return 0, p.run(ctx)
	}
	cfg := child.Config{
		Words: words, Env: child.Environ(os.Environ(), words, f.appVariables()), Log: p.log,
		KeepHangup: p.audit.file != nil, // which is opened anew
	}
	return child.RunServer(ctx, cfg, f.readiness(), p.run)
}

// appVariables tell an app behind --front which port is left to it.
func (f flags) appVariables() []string {
	port := f.readiness().URL.Port()
	if f.Front == "" || appPort() == "" || port == "" {
		return nil
	}
	return []string{"DATABRICKS_APP_PORT=" + port}
}
