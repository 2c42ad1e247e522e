package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/worker"
)

// policyInterval is how often the policy file is looked at.
const policyInterval = 2 * time.Second

// guardFlags say who may do what, and where it is written down.
type guardFlags struct {
	Policy        string `placeholder:"FILE" help:"Who may do what (YAML; obo policy check reads it too). What no rule names is denied. Read again when it changes. Default: every person whom the workspace knows may do everything."`
	Front         string `placeholder:"[HOST]:PORT" help:"Also serve the platform's front door there, under the same policy; auto is :$$DATABRICKS_APP_PORT. The app itself then listens on loopback, where --forward says."`
	Audit         string `placeholder:"FILE" help:"Append one line of JSON about each request; - is standard output. Opened anew on SIGHUP and when it was moved away."`
	AuditStream   string `placeholder:"SUBJECT" help:"Publish the same to a JetStream stream that stores this subject. Not sealed: whoever runs the broker reads names and paths."`
	AuditRequired bool   `help:"Refuse a request before anything is done for it if no audit record of it can be kept. Default: serve it, and log the record as lost."`
}

// readPolicy reads --policy; nil without one.
func (f guardFlags) readPolicy() (*worker.Policy, error) {
	if f.Policy == "" {
		return nil, nil
	}
	policy, err := worker.ReadPolicy(f.Policy)
	if err != nil && !strings.HasPrefix(err.Error(), f.Policy+":") { // where faults of the content begin
		err = fmt.Errorf("--policy (OBO_POLICY): %w", err)
	}
	return policy, err
}

// watchPolicy keeps the file's content in force until ctx ends.
func (f guardFlags) watchPolicy(ctx context.Context, w *worker.Worker, policy *worker.Policy, log *slog.Logger) {
	if policy == nil {
		return
	}
	log.Info("policy in force", "path", f.Policy, "rules", policy.Rules())
	for _, warning := range policy.Warnings() {
		log.Warn("policy: " + warning)
	}
	if f.Front == "" && appPort() != "" {
		log.Warn("the policy is for relayed requests only: whoever comes through the platform's front door reaches the app past it, unless the app refuses them itself. --front auto puts the same policy before that door")
	}
	worker.WatchPolicy(ctx, f.Policy, policy, policyInterval, log, w.SetPolicy)
}

// appPort is the port that the platform gave the app, empty elsewhere.
func appPort() string { return os.Getenv("DATABRICKS_APP_PORT") }
