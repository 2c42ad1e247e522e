package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/obo-relay/obo-relay/relay"
)

// Removal is what Remove did.
type Removal struct {
	Sides   []*Side  // those that are gone
	Changed []string // files of those who stay, and of the server, that are not what they were
	Deleted []string // files of those who went
	Left    []string // what else is in their directories: it was not made here
}

// Remove takes apps and services out of a directory: their NATS users and permissions out of the server's configuration, their
// keys out of the kits and trust files of the others, and their own files away. A removal that broke off is completed by making
// it again: the record, which tells who is there, is written last.
func Remove(dir string, apps, services []string) (Removal, error) {
	return remove(dir, apps, services, files{fill: (*os.File).Write})
}

func remove(dir string, apps, services []string, f files) (Removal, error) {
	var r Removal
	f.changed = func(path string) { r.Changed = append(r.Changed, path) }
	held, err := lock(dir)
	if err != nil {
		return r, err
	}
	defer held.unlock()
	before, err := open(dir)
	if err != nil {
		return r, err
	}
	held.sweep(before)
	var faults []error
	for _, x := range []struct {
		role  relay.Role
		names []string
	}{{relay.RoleApp, apps}, {relay.RoleService, services}} {
		for _, name := range x.names {
			s, err := before.find(x.role, name)
			if err == nil && !slices.Contains(r.Sides, s) {
				r.Sides = append(r.Sides, s)
			}
			faults = append(faults, err)
		}
	}
	if len(apps)+len(services) == 0 {
		faults = append(faults, errors.New("setup: nothing to remove: name an app (--app) or a service (--service)"))
	}
	if err := errors.Join(faults...); err != nil {
		return r, err
	}
	after, err := before.without(r.Sides)
	if err != nil {
		return r, err
	}
	conf, err := after.conf()
	if err != nil {
		return r, err
	}
	if err := errors.Join(after.saveKeys(f), after.saveRest(f, conf)); err != nil {
		return r, err
	}
	for _, s := range r.Sides {
		if err := s.deleteFiles(&r); err != nil {
			return r, err
		}
	}
	for _, s := range r.Sides {
		r.clear(filepath.Dir(s.KitFile), after)
	}
	return r, after.saveRecord(f)
}

// without is the plan without those sides. Those who stay keep what they have.
func (p *plan) without(gone []*Side) (*plan, error) {
	left := *p
	left.sides = slices.DeleteFunc(slices.Clone(p.sides), func(s *Side) bool { return slices.Contains(gone, s) })
	removed := func(role relay.Role, name string) bool { return left.side(role, name) == nil }
	left.cfg.Services = slices.DeleteFunc(slices.Clone(p.cfg.Services), func(name string) bool { return removed(relay.RoleService, name) })
	left.cfg.Apps = nil
	var faults []error
	for _, a := range p.cfg.Apps {
		if removed(relay.RoleApp, a.Name) {
			continue
		}
		calls := slices.DeleteFunc(slices.Clone(a.Calls), func(name string) bool { return removed(relay.RoleService, name) })
		if len(calls) == 0 && len(a.Calls) > 0 { // none named would be all of them
			faults = append(faults, fmt.Errorf("setup: app %q would call no service: remove it too, or let it call another one first (obo init --app %s=SERVICE)", a.Name, a.Name))
		}
		left.cfg.Apps = append(left.cfg.Apps, App{a.Name, calls})
	}
	switch {
	case len(left.cfg.Apps) == 0 || len(left.cfg.Services) == 0:
		faults = append(faults, errors.New("setup: this would leave no app or no service, and so no relay: add another one first (obo init), or stop everything and delete the directory"))
	case len(faults) == 0:
		for _, service := range left.cfg.Services {
			if len(left.cfg.callers(service)) == 0 {
				faults = append(faults, fmt.Errorf("setup: no app would call service %q: remove it too, or let another app call it first (obo init --app NAME=SERVICE,…)", service))
			}
		}
	}
	return &left, errors.Join(faults...)
}

// deleteFiles takes away what was made for a side, and nothing else.
func (s *Side) deleteFiles(r *Removal) error {
	paths := []string{s.KitFile, s.TrustFile}
	for _, kind := range []Kind{Identity, NATSUser} {
		for _, stage := range []Stage{Next, InUse, Old} {
			paths = append(paths, s.file(kind, stage))
		}
	}
	for _, path := range paths {
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("setup: %w", err)
		}
		r.Deleted = append(r.Deleted, path)
	}
	return nil
}

// clear takes a directory away if it is empty, and tells what else is in it.
func (r *Removal) clear(dir string, p *plan) {
	if slices.ContainsFunc(p.sides, func(s *Side) bool { return filepath.Dir(s.KitFile) == dir }) || os.Remove(dir) == nil {
		return // it is another side's too, or gone
	}
	entries, _ := os.ReadDir(dir) // one that cannot be read keeps what is in it
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); !slices.Contains(r.Left, path) {
			r.Left = append(r.Left, path)
		}
	}
}
