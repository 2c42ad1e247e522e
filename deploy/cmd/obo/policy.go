package main

import (
	"fmt"
	"strings"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// policyCommand reads policy files.
type policyCommand struct {
	Check   policyCheck   `cmd:"" help:"Report all faults of a policy file, with their lines."`
	Explain policyExplain `cmd:"" help:"Say which rule decides about a request, and why."`
}

// policyCheck reads a file as obo-worker --policy does.
type policyCheck struct {
	File string `arg:"" help:"The policy file."`
}

// Run prints nothing but faults, warnings and a closing line.
func (c *policyCheck) Run(t *terminal) error {
	policy, err := worker.ReadPolicy(c.File)
	if err != nil {
		return err
	}
	for _, warning := range policy.Warnings() {
		fmt.Fprintf(t.stderr, "%s: warning: %s\n", c.File, warning)
	}
	fmt.Fprintf(t.stdout, "%s: ok, %d rules\n", c.File, policy.Rules())
	return nil
}

// policyExplain decides about one request.
type policyExplain struct {
	File   string   `arg:"" help:"The policy file."`
	Method string   `arg:"" help:"The method, for example GET."`
	Path   string   `arg:"" help:"The path, for example /reports/7; a query does not count."`
	User   string   `placeholder:"NAME" help:"The person's user name in the workspace."`
	Group  []string `sep:"none" placeholder:"NAME" help:"A group that the person is in. May be repeated."`
}

// Run prints the decision; a denial is no fault.
func (c *policyExplain) Run(t *terminal) error {
	policy, err := worker.ReadPolicy(c.File)
	if err != nil {
		return err
	}
	path, _, _ := strings.Cut(c.Path, "?")
	if !relay.ValidMethod(c.Method) {
		return fmt.Errorf("method %q: want one of HTTP, but not CONNECT", c.Method)
	}
	if err := relay.CheckPath(path); err != nil {
		return fmt.Errorf("path %q: refused before the policy is asked: %s", path, relay.AsError(err).Detail)
	}
	user := &worker.User{UserName: c.User, Groups: c.Group}
	if user.UserName == "" {
		user.UserName = "somebody"
	}
	d := policy.Decide(c.Method, path, user)
	verdict := "denied"
	if d.Allowed {
		verdict = "allowed"
	}
	fmt.Fprintf(t.stdout, "%s: %s\n", verdict, d.Reason)
	return nil
}
