package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
)

// keysCommand replaces keys without losing a request.
type keysCommand struct {
	List   keysListCommand   `cmd:"" help:"Every key: its thumbprint, age, and who trusts it; and which file is stale."`
	Add    keysAddCommand    `cmd:"" help:"First step: make the next key of an app or service, and have it trusted."`
	Switch keysSwitchCommand `cmd:"" help:"Second step: take the next key into use. The one before is still trusted."`
	Retire keysRetireCommand `cmd:"" help:"Third step: trust the old key no longer."`
}

// keysListCommand looks.
type keysListCommand struct {
	Dir    string   `required:"" placeholder:"DIR" help:"Directory of obo init."`
	MaxAge int      `default:"365" placeholder:"DAYS" help:"Age from which a key in use is warned of. Default: 365."`
	Files  []string `arg:"" optional:"" name:"file" help:"Kits and trust files that were delivered, to compare."`
}

const dateForm = time.DateOnly

// Run lists, and fails if a file is stale.
func (c *keysListCommand) Run(t *terminal) error {
	all, faults, err := setup.Keys(c.Dir)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "WHOSE\tWHAT\tSTAGE\tKEY\tSINCE\tTRUSTED BY")
	now := time.Now()
	for _, k := range all {
		by := strings.Join(k.By, ", ")
		if by == "" {
			by = "nobody"
		}
		days := int(now.Sub(k.Since).Hours() / 24)
		fmt.Fprintf(table, "%s %s\t%s\t%s\t%s\t%s, %dd\t%s\n", k.Role, k.Name, k.Kind, k.Stage, k.Key, k.Since.Format(dateForm), days, by)
		switch {
		case k.Stage == setup.InUse && days >= c.MaxAge:
			faultLine(t, "warning: the %s of %s %s is %d days old: replace it, beginning with obo keys add", k.Kind, k.Role, k.Name, days)
		case k.Stage == setup.Old && days >= 7:
			faultLine(t, "warning: the old %s of %s %s has been trusted for %d days more: obo keys retire", k.Kind, k.Role, k.Name, days)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, path := range c.Files {
		found, err := setup.Stale(c.Dir, path)
		if err != nil {
			return err
		}
		for _, fault := range found {
			faults = append(faults, fmt.Sprintf("%s %s: deliver the directory's", path, fault))
		}
	}
	var stale []error
	for _, fault := range faults {
		stale = append(stale, errors.New(fault))
	}
	return errors.Join(stale...)
}

func faultLine(t *terminal, format string, args ...any) { fmt.Fprintf(t.stderr, format+"\n", args...) }

// keysStep are the flags of a step.
type keysStep struct {
	Name string `arg:"" help:"The app or service."`
	Dir  string `required:"" placeholder:"DIR" help:"Directory of obo init."`
	Role string `enum:"app,service," default:"" placeholder:"ROLE" help:"app or service, where one name is both."`
	NATS bool   `name:"nats-user" help:"The key that the NATS server knows, instead of the identity key."`
}

type (
	keysAddCommand    struct{ keysStep }
	keysSwitchCommand struct{ keysStep }
	keysRetireCommand struct{ keysStep }
)

// Run makes the next key.
func (c *keysAddCommand) Run(t *terminal) error { return c.run(t, setup.Add) }

// Run takes it into use.
func (c *keysSwitchCommand) Run(t *terminal) error { return c.run(t, setup.Switch) }

// Run trusts the old one no longer.
func (c *keysRetireCommand) Run(t *terminal) error { return c.run(t, setup.Retire) }

func (c *keysStep) run(t *terminal, step setup.Step) error {
	kind := setup.Identity
	if c.NATS {
		kind = setup.NATSUser
	}
	r, err := setup.Rotate(c.Dir, relay.Role(c.Role), c.Name, kind, step)
	if err != nil {
		return err
	}
	what := map[setup.Step]string{setup.Add: "is made and trusted", setup.Switch: "is in use", setup.Retire: "is retired"}[step]
	fmt.Fprintf(t.stdout, "%s of %s %s: %s %s\n", kind, r.Side.Role, r.Side.Name, r.Key, what)
	for _, path := range r.Changed {
		fmt.Fprintf(t.stdout, "changed: %s\n", shown(c.Dir, path))
	}
	fmt.Fprintln(t.stdout, "next: "+c.next(kind, step))
	return nil
}

// shown is a path as the directory was given.
func shown(dir, path string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(abs, path)
	if err != nil {
		return path
	}
	return filepath.Join(filepath.Clean(dir), rel)
}

// next says what to do before the step after this one.
func (c *keysStep) next(kind setup.Kind, step setup.Step) string {
	flags := " --dir " + quote(c.Dir)
	if c.Role != "" {
		flags += " --role " + c.Role
	}
	if c.NATS {
		flags += " --nats-user"
	}
	then := func(verb string) string { return "obo keys " + verb + flags + " " + c.Name }
	if kind == setup.NATSUser {
		return map[setup.Step]string{
			setup.Add:    "reload the NATS server, then " + then("switch"),
			setup.Switch: "deliver the changed kit and restart " + c.Name + ", then " + then("retire"),
			setup.Retire: "reload the NATS server, which disconnects whoever still uses the old key",
		}[step]
	}
	return map[setup.Step]string{
		setup.Add:    "deliver the changed kits and trust files of those who trust it, then " + then("switch"),
		setup.Switch: "deliver the changed kit of " + c.Name + ", and when it uses the new key, " + then("retire"),
		setup.Retire: "deliver the changed kits and trust files: from then on the old key is refused",
	}[step]
}
