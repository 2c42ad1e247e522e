package setup

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/obo-relay/obo-relay/relay"
)

// KeyInfo is one key of a directory.
type KeyInfo struct {
	Role  relay.Role
	Name  string
	Kind  Kind
	Stage Stage
	Key   string    // thumbprint, or public key of the NATS user
	Since time.Time // when its file came to be
	By    []string  // whose trust file names it, or the server's configuration
}

// Keys lists every key of a directory, and what is wrong with its files.
func Keys(dir string) (all []KeyInfo, faults []string, err error) {
	p, err := open(dir)
	if err != nil {
		return nil, nil, err
	}
	conf, err := os.ReadFile(p.cfg.path("nats-server.conf"))
	if err != nil {
		return nil, nil, fmt.Errorf("setup: %w: run obo init --dir %s", err, dir)
	}
	trusted := map[string]*relay.Trust{}
	for _, s := range p.sides {
		t, err := relay.LoadTrust(s.TrustFile)
		if err != nil {
			faults = append(faults, fmt.Sprintf("%v: run obo init --dir %s", err, dir))
			continue
		}
		trusted[s.title()] = t
	}
	for _, s := range p.sides {
		for _, kind := range []Kind{Identity, NATSUser} {
			for _, stage := range []Stage{InUse, Next, Old} {
				k := KeyInfo{Role: s.Role, Name: s.Name, Kind: kind, Stage: stage, Key: s.key(kind, stage)}
				if k.Key == "" {
					continue
				}
				info, err := os.Stat(s.file(kind, stage))
				if err != nil {
					return nil, nil, fmt.Errorf("setup: %w: run obo init --dir %s", err, dir)
				}
				k.Since = info.ModTime()
				if kind == NATSUser && strings.Contains(string(conf), k.Key) {
					k.By = []string{"nats-server.conf"}
				}
				for _, other := range p.sides {
					if t := trusted[other.title()]; kind == Identity && t != nil && t.Trusts(s.Role, s.Name, k.Key) {
						k.By = append(k.By, other.title())
					}
				}
				all = append(all, k)
			}
		}
		for _, path := range []string{s.KitFile, s.TrustFile} {
			data, err := os.ReadFile(path)
			if err != nil {
				return nil, nil, fmt.Errorf("setup: %w: run obo init --dir %s", err, dir)
			}
			for _, fault := range p.stale(data) {
				faults = append(faults, fmt.Sprintf("%s %s: run obo init --dir %s", path, fault, dir))
			}
		}
	}
	for _, u := range p.sides {
		for _, key := range u.users() {
			if !strings.Contains(string(conf), key) {
				faults = append(faults, fmt.Sprintf("%s does not let in the NATS user %s of %s: run obo init --dir %s", p.cfg.path("nats-server.conf"), key, u.title(), dir))
			}
		}
	}
	return all, faults, nil
}

// Stale says what is wrong with a kit or trust file that was delivered earlier, one sentence each without its subject; none
// if it is as the directory wants it now.
func Stale(dir, path string) ([]string, error) {
	p, err := open(dir)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("setup: %w", err)
	}
	return p.stale(data), nil
}

func (s *Side) title() string { return string(s.Role) + " " + s.Name }

// stale compares what a document says with what the directory would write now.
func (p *plan) stale(data []byte) []string {
	var head struct {
		Type string     `json:"type"`
		Role relay.Role `json:"role"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return []string{"is no kit and no trust file"}
	}
	if head.Type != relay.KitTypeName {
		trust, err := relay.ParseTrust(data)
		if err != nil {
			return []string{"is no kit and no trust file: " + sentence(err)}
		}
		return p.staleTrust(trust, nil)
	}
	kit, err := relay.ParseKit(data, head.Role)
	if err != nil {
		return []string{"cannot be read: " + sentence(err)}
	}
	s := p.side(kit.Role, kit.Name)
	if s == nil {
		return []string{fmt.Sprintf("is of %s %s, which this directory does not know", kit.Role, kit.Name)}
	}
	var faults []string
	note := func(kind Kind, has string) {
		if has != s.key(kind, InUse) {
			faults = append(faults, fmt.Sprintf("has the %s %s of %s, in use is %s", kind, has, s.title(), s.key(kind, InUse)))
		}
	}
	if kit.NATS != p.cfg.NATSURL || kit.SubjectPrefix != p.cfg.SubjectPrefix {
		faults = append(faults, "names another NATS server or subject prefix than the directory")
	}
	note(Identity, kit.Key.Thumbprint())
	if public := publicUser(kit.NKey); public != "" { // a side may have credentials instead
		note(NATSUser, public)
	}
	trust, err := kit.Trust.Trust()
	if err != nil {
		return append(faults, sentence(err))
	}
	return append(faults, p.staleTrust(trust, s)...)
}

// sentence is an error's text on one line.
func sentence(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// staleTrust compares key by key. Whose trust file it is is known of kits only.
func (p *plan) staleTrust(t *relay.Trust, owner *Side) (faults []string) {
	want := map[relay.Role]map[string]relay.JWKS{}
	if owner != nil {
		f := p.trust(owner)
		want[relay.RoleApp], want[relay.RoleService] = f.Apps, f.Services
	}
	for _, role := range []relay.Role{relay.RoleApp, relay.RoleService} {
		for _, name := range t.Names(role) {
			s := p.side(role, name)
			if s == nil {
				faults = append(faults, fmt.Sprintf("trusts %s %s, which this directory does not know", role, name))
				continue
			}
			delete(want[role], name)
			var keys []string
			for _, id := range s.identities() {
				keys = append(keys, id.Kid())
				if !t.Trusts(role, name, id.Kid()) {
					faults = append(faults, fmt.Sprintf("lacks key %s of %s", id.Kid(), s.title()))
				}
			}
			for _, kid := range t.Kids(role, name) {
				if !slices.Contains(keys, kid) {
					faults = append(faults, fmt.Sprintf("trusts key %s of %s, which is retired or unknown", kid, s.title()))
				}
			}
		}
		for name := range want[role] {
			faults = append(faults, fmt.Sprintf("does not trust %s %s", role, name))
		}
	}
	return faults
}

func publicUser(seed string) string {
	pair, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return ""
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return ""
	}
	return public
}
