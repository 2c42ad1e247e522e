package setup

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/obo-relay/obo-relay/relay"
)

// Kind is what a side shows who it is with.
type Kind string

// The kinds of keys.
const (
	Identity Kind = "identity key" // to the other side
	NATSUser Kind = "NATS user"    // to the NATS server
)

// Stage is where a key stands on its way. Only the one in use signs; the others are trusted.
type Stage string

// The stages of a key.
const (
	Next  Stage = "next"
	InUse Stage = "in use"
	Old   Stage = "old"
)

// Step is one of the steps that replace a key. Between two of them what has changed is delivered to where it is used.
type Step string

// The steps, in their order.
const (
	Add    Step = "add"    // a next key is made, and trusted
	Switch Step = "switch" // the next key comes into use, the one before is still trusted
	Retire Step = "retire" // the old key is trusted no longer
)

// Rotation is what a step did.
type Rotation struct {
	Side    *Side
	Key     string   // thumbprint, or public key of the NATS user, that was added, taken into use, or retired
	Changed []string // files that are not what they were
}

// file is where a key is.
func (s *Side) file(kind Kind, stage Stage) string {
	path := s.KeyFile
	if kind == NATSUser {
		path = s.NKeyFile
	}
	if stage == InUse {
		return path
	}
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "-" + string(stage) + ext
}

// key names a key, empty if there is none.
func (s *Side) key(kind Kind, stage Stage) string {
	if kind == NATSUser {
		return map[Stage]user{Next: s.nextUser, InUse: s.user, Old: s.oldUser}[stage].public
	}
	return map[Stage]relay.Identity{Next: s.nextIdentity, InUse: s.identity, Old: s.oldIdentity}[stage].Kid()
}

// find returns the side of that name. The role may be left out where one side alone has the name.
func (p *plan) find(role relay.Role, name string) (*Side, error) {
	var found []*Side
	for _, s := range p.sides {
		if s.Name == name && (role == "" || s.Role == role) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("setup: %s has no %s of the name %q", p.cfg.Dir, cmp.Or(string(role), "app or service"), name)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("setup: %s is both an app and a service: say which with --role", name)
}

// Rotate makes one step for a key of an app or service. A step that broke off is completed by making it again.
func Rotate(dir string, role relay.Role, name string, kind Kind, step Step) (Rotation, error) {
	return rotate(dir, role, name, kind, step, files{fill: (*os.File).Write})
}

func rotate(dir string, role relay.Role, name string, kind Kind, step Step, f files) (Rotation, error) {
	var r Rotation
	f.changed = func(path string) { r.Changed = append(r.Changed, path) }
	held, err := lock(dir)
	if err != nil {
		return r, err
	}
	defer held.unlock()
	p, err := open(dir)
	if err != nil {
		return r, err
	}
	held.sweep(p)
	s, err := p.find(role, name)
	if err != nil {
		return r, err
	}
	switch step {
	case Add:
		err = s.add(kind, f)
	case Switch:
		err = s.switchOver(kind, f)
	case Retire:
		err = s.retire(kind, &r)
	default:
		err = fmt.Errorf("setup: no such step: %s", step)
	}
	if err != nil {
		return r, err
	}
	if step != Retire { // who retires has taken it out of the plan
		if p, err = open(dir); err != nil {
			return r, err
		}
		if r.Side, err = p.find(s.Role, s.Name); err != nil {
			return r, err
		}
		r.Key = r.Side.key(kind, map[Step]Stage{Add: Next, Switch: InUse}[step])
		return r, p.write(f)
	}
	r.Side = s
	if err := p.write(f); err != nil {
		return r, err
	}
	return r, os.Remove(s.file(kind, Old)) // last, so that what broke off before can be done again
}

// open is the plan of a directory that has been set up.
func open(dir string) (*plan, error) {
	cfg, err := Read(dir)
	if err != nil {
		return nil, err
	}
	return cfg.plan()
}

// add makes the next key, unless it is there.
func (s *Side) add(kind Kind, f files) error {
	if s.key(kind, Next) != "" {
		return nil
	}
	if old := s.key(kind, Old); old != "" {
		return fmt.Errorf("setup: the old %s %s of %s %s is still trusted: retire it first (obo keys retire)", kind, old, s.Role, s.Name)
	}
	if kind == Identity {
		return writeJSON(f.create, s.file(kind, Next), relay.NewIdentity().Private(), 0o600)
	}
	u, err := newUser()
	if err != nil {
		return err
	}
	return u.save(f, s.file(kind, Next))
}

// switchOver puts the next key in the place of the one in use, which is kept as the old one, unless that is done.
func (s *Side) switchOver(kind Kind, f files) error {
	next, current, old := s.key(kind, Next), s.key(kind, InUse), s.key(kind, Old)
	switch {
	case next == "" && old != "":
		return nil // it is in use already; what follows from that may not have been written
	case next == "":
		return fmt.Errorf("setup: %s %s has no next %s: make one with obo keys add", s.Role, s.Name, kind)
	case old == "":
		data, err := relay.ReadSecretFile(s.file(kind, InUse))
		if err == nil {
			err = f.create(s.file(kind, Old), data, 0o600)
		}
		if err != nil {
			return fmt.Errorf("setup: %w", err)
		}
	case old != current: // if they are the same an earlier run broke off here
		return fmt.Errorf("setup: the old %s %s of %s %s is still trusted: retire it first (obo keys retire)", kind, old, s.Role, s.Name)
	}
	if err := os.Rename(s.file(kind, Next), s.file(kind, InUse)); err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	f.changed(s.file(kind, InUse))
	return nil
}

// retire takes the old key out of the plan.
func (s *Side) retire(kind Kind, r *Rotation) error {
	if r.Key = s.key(kind, Old); r.Key == "" {
		err := fmt.Errorf("setup: %s %s has no old %s to retire", s.Role, s.Name, kind)
		if s.key(kind, Next) != "" {
			err = fmt.Errorf("%w: take the next one into use first (obo keys switch)", err)
		}
		return err
	}
	if r.Key == s.key(kind, InUse) {
		return errors.New("setup: a switch broke off: make it again (obo keys switch)")
	}
	if kind == Identity {
		s.oldIdentity = relay.Identity{}
	} else {
		s.oldUser = user{}
	}
	return nil
}
