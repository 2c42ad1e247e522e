package setup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/obo-relay/obo-relay/relay"
)

// Side is one app or service and its files.
type Side struct {
	Role      relay.Role
	Name      string
	KeyFile   string
	TrustFile string
	NKeyFile  string
	KitFile   string
	Kid       string // thumbprint of the identity key
	New       bool   // the identity key was made in this run

	identity relay.Identity
	user     user

	nextIdentity, oldIdentity relay.Identity // zero if there is none
	nextUser, oldUser         user           // the same
}

// user is a NATS user's key.
type user struct {
	seed   []byte
	public string
	fresh  bool
}

// loadSide reads the keys that are there and makes those that are missing, in memory.
func (c Config) loadSide(role relay.Role, name string, taken map[string]bool) (*Side, error) {
	prefix := c.prefix(role, name, taken)
	file := func(base string) string { return c.path(name, prefix+base) }
	s := &Side{Role: role, Name: name, KeyFile: file("key.json"), TrustFile: file("trust.json"), NKeyFile: file("nats.nk"), KitFile: file("kit.json")}
	taken[s.KeyFile] = true
	var err error
	s.identity, err = relay.LoadIdentity(s.KeyFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
		s.identity, s.New, err = relay.NewIdentity(), true, nil
	case err != nil:
		err = fmt.Errorf("setup: %s %s has a key that cannot be used: %w: mend it, or move it away to have a new one made", role, name, err)
	}
	s.Kid = s.identity.Kid()
	var userFault error
	s.user, userFault = loadUser(s.NKeyFile)
	return s, errors.Join(err, userFault, s.loadOthers())
}

// loadOthers reads the keys that are about to come into use, or to go out of it.
func (s *Side) loadOthers() error {
	var faults []error
	for _, x := range []struct {
		stage    Stage
		identity *relay.Identity
		user     *user
	}{{Next, &s.nextIdentity, &s.nextUser}, {Old, &s.oldIdentity, &s.oldUser}} {
		var err error
		*x.identity, err = relay.LoadIdentity(s.file(Identity, x.stage))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			faults = append(faults, fmt.Errorf("setup: %w", err))
		}
		if _, err := os.Stat(s.file(NATSUser, x.stage)); err != nil {
			continue
		}
		*x.user, err = loadUser(s.file(NATSUser, x.stage))
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// identities are all that others are to trust, in an order that a switch does not change.
func (s *Side) identities() []relay.Identity {
	all := slices.DeleteFunc([]relay.Identity{s.identity, s.nextIdentity, s.oldIdentity}, relay.Identity.IsZero)
	slices.SortFunc(all, func(a, b relay.Identity) int { return strings.Compare(a.Kid(), b.Kid()) })
	return slices.CompactFunc(all, func(a, b relay.Identity) bool { return a.Kid() == b.Kid() })
}

// users are all that the NATS server is to let in, in such an order too.
func (s *Side) users() []string {
	all := slices.DeleteFunc([]string{s.user.public, s.nextUser.public, s.oldUser.public}, func(key string) bool { return key == "" })
	slices.Sort(all)
	return slices.Compact(all)
}

// prefix is what the file names of a role begin with: nothing, unless the name's other role came first.
func (c Config) prefix(role relay.Role, name string, taken map[string]bool) string {
	own := string(role) + "-"
	if _, err := os.Stat(c.path(name, own+"key.json")); err == nil || taken[c.path(name, "key.json")] {
		return own
	}
	other := relay.RoleApp
	if role == relay.RoleApp {
		other = relay.RoleService
	}
	if c.had(other, name) && !c.had(role, name) {
		return own
	}
	data, err := os.ReadFile(c.path(name, "kit.json"))
	if err != nil {
		return ""
	}
	if _, err := relay.ParseKit(data, other); err == nil {
		return own
	}
	return ""
}

// loadUser reads a NATS user's seed, or makes one if there is no file.
func loadUser(path string) (user, error) {
	data, err := relay.ReadSecretFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return newUser()
	}
	if err != nil {
		return user{}, fmt.Errorf("setup: %w", err)
	}
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(data))))
	if err != nil {
		return user{}, fmt.Errorf("setup: %s is not the seed of a NATS user: mend it, or move it away to have a new one made", path)
	}
	return userOf(pair, false)
}

func newUser() (user, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return user{}, fmt.Errorf("setup: %w", err)
	}
	return userOf(pair, true)
}

func userOf(pair nkeys.KeyPair, fresh bool) (user, error) {
	seed, err := pair.Seed()
	if err != nil {
		return user{}, fmt.Errorf("setup: %w", err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		return user{}, fmt.Errorf("setup: %w", err)
	}
	return user{seed, public, fresh}, nil
}

// save writes the user's seed if it is new.
func (u user) save(f files, path string) error {
	if !u.fresh {
		return nil
	}
	return f.create(path, append(u.seed, '\n'), 0o600)
}

// saveKey writes the identity key if it is new.
func (s *Side) saveKey(f files) error {
	if !s.New {
		return nil
	}
	return writeJSON(f.create, s.KeyFile, s.identity.Private(), 0o600)
}

// save writes the side's other files.
func (s *Side) save(f files, c Config, trust relay.TrustFile) error {
	if err := s.user.save(f, s.NKeyFile); err != nil {
		return err
	}
	if err := writeJSON(f.replace, s.TrustFile, trust, 0o644); err != nil {
		return err
	}
	return writeJSON(f.replace, s.KitFile, s.kit(c, trust), 0o600)
}

func (s *Side) kit(c Config, trust relay.TrustFile) relay.Kit {
	return relay.Kit{
		Type: relay.KitTypeName, Role: s.Role, Name: s.Name, NATS: c.NATSURL, NKey: string(s.user.seed),
		Key: s.identity.Private(), Trust: trust, SubjectPrefix: c.SubjectPrefix,
	}
}

func writeJSON(write func(string, []byte, os.FileMode) error, path string, v any, mode os.FileMode) error {
	text, err := relay.PrettyJSON(v)
	if err != nil {
		return fmt.Errorf("setup: %s: %w", path, err)
	}
	return write(path, text, mode)
}
