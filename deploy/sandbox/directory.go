package sandbox

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"sync"
)

// principal is who a token speaks for. It is a snapshot: group changes do not
// reach it.
type principal struct {
	name             string // user name, or client id
	id               string // numeric
	displayName      string
	emails           []string
	servicePrincipal bool
	secret           string
	groups           []string // direct
	inactive         bool
}

// membership is one entry of a principal's group list.
type membership struct {
	group, id string
	direct    bool
}

// directory holds principals and groups; all of it may change at run time.
type directory struct {
	mu         sync.RWMutex
	principals map[string]*principal // by name; guarded by mu
	order      []string              // users in configured order; guarded by mu
	groups     map[string]*Group     // by name; guarded by mu
}

func newDirectory(cfg Config) *directory {
	d := &directory{principals: map[string]*principal{}, groups: map[string]*Group{}}
	for _, g := range cfg.Groups {
		d.groups[g.Name] = &Group{Name: g.Name, ID: g.ID, MemberOf: slices.Clone(g.MemberOf)}
	}
	for _, u := range cfg.Users {
		p := &principal{
			name: u.UserName, id: u.ID, displayName: u.DisplayName,
			emails: slices.Clone(u.Emails), groups: slices.Clone(u.Groups),
		}
		if len(p.emails) == 0 {
			p.emails = []string{u.UserName}
		}
		d.add(p)
		d.order = append(d.order, p.name)
	}
	for _, sp := range cfg.ServicePrincipals {
		d.addServicePrincipal(sp)
	}
	return d
}

func (d *directory) addServicePrincipal(sp ServicePrincipal) {
	d.add(&principal{
		name: sp.ClientID, displayName: sp.DisplayName, secret: sp.Secret,
		groups: slices.Clone(sp.Groups), servicePrincipal: true,
	})
}

func (d *directory) add(p *principal) {
	if p.id == "" {
		p.id = numericID(p.name)
	}
	if p.displayName == "" {
		p.displayName = p.name
	}
	d.principals[p.name] = p
}

// lookup returns a snapshot of the principal.
func (d *directory) lookup(name string) (principal, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p, ok := d.principals[name]
	if !ok {
		return principal{}, false
	}
	return *p, true
}

// users returns the people in configured order.
func (d *directory) users() []principal {
	d.mu.RLock()
	defer d.mu.RUnlock()
	people := make([]principal, 0, len(d.order))
	for _, name := range d.order {
		people = append(people, *d.principals[name])
	}
	return people
}

// change runs f on the principal. f must replace slices, not write into them:
// snapshots share them.
func (d *directory) change(name string, f func(*principal)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.principals[name]
	if !ok {
		return fmt.Errorf("sandbox: no principal %q", name)
	}
	f(p)
	return nil
}

// setMemberOf makes group a member of exactly the groups named.
func (d *directory) setMemberOf(group string, parents []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	g, ok := d.groups[group]
	if !ok {
		g = &Group{Name: group}
		d.groups[group] = g
	}
	g.MemberOf = slices.Clone(parents)
}

// memberships lists direct groups in order, then those reached through them,
// nearest first. Groups may be members of each other in a circle.
func (d *directory) memberships(direct []string) []membership {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var list []membership
	seen := map[string]bool{}
	for depth, level := 0, direct; len(level) > 0; depth++ {
		var next []string
		for _, name := range level {
			if seen[name] {
				continue
			}
			seen[name] = true
			m := membership{group: name, direct: depth == 0}
			if g := d.groups[name]; g != nil {
				m.id = g.ID
				next = append(next, g.MemberOf...)
			}
			if m.id == "" {
				m.id = numericID("group " + name)
			}
			list = append(list, m)
		}
		level = next
	}
	return list
}

// numericID derives a stable id that looks like the platform's: up to 15
// decimal digits, exact in a JSON number.
func numericID(name string) string {
	sum := sha256.Sum256([]byte(name))
	return strconv.FormatUint(1e14+binary.BigEndian.Uint64(sum[:])%9e14, 10)
}
