package relay

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// TrustTypeName is the type constant of Trust.
const TrustTypeName = "obo.v1.trust"

// Role says which side a name stands for. A key is trusted under one role and name and for nothing else.
type Role string

// The two roles.
const (
	RoleApp     Role = "app"
	RoleService Role = "service"
)

// JWKS is a JWK set (RFC 7517 §5) of public Ed25519 keys.
type JWKS struct {
	Keys []JWK `json:"keys"`
}

// TrustFile is the document that says whose signatures count (PROTOCOL.md §13): several keys under a name while one is
// being replaced.
type TrustFile struct {
	Type     string          `json:"type"`
	Apps     map[string]JWKS `json:"apps,omitzero"`
	Services map[string]JWKS `json:"services,omitzero"`
}

// Trust is a checked TrustFile, immutable.
type Trust struct {
	apps, services map[string]map[string]ed25519.PublicKey // name → kid → key
}

// ParseTrust reads a trust file and reports all its faults at once.
func ParseTrust(data []byte) (*Trust, error) {
	var f TrustFile
	if err := unmarshalStrict(data, &f); err != nil {
		return nil, fmt.Errorf("trust file: %w", err)
	}
	return f.Trust()
}

// LoadTrust reads a trust file from disk.
func LoadTrust(path string) (*Trust, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t, err := ParseTrust(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Trust checks the document and reports all its faults at once.
func (f TrustFile) Trust() (*Trust, error) {
	var faults []error
	if f.Type != TrustTypeName {
		faults = append(faults, fmt.Errorf("type is %q, want %q", f.Type, TrustTypeName))
	}
	read := func(role Role, sets map[string]JWKS) map[string]map[string]ed25519.PublicKey {
		out := map[string]map[string]ed25519.PublicKey{}
		for _, name := range slices.Sorted(maps.Keys(sets)) {
			if !ValidName(name) {
				faults = append(faults, fmt.Errorf("%s %q: not a name (a-z, 0-9 and -, at most 63)", role, name))
				continue
			}
			if len(sets[name].Keys) == 0 {
				faults = append(faults, fmt.Errorf("%s %q has no keys", role, name))
			}
			out[name] = map[string]ed25519.PublicKey{}
			for i, k := range sets[name].Keys {
				public, err := k.ed25519()
				if err == nil && k.Kid == "" {
					err = errors.New("kid is missing; it is " + k.Thumbprint())
				}
				if err != nil {
					faults = append(faults, fmt.Errorf("%s %q, key %d: %w", role, name, i+1, err))
					continue
				}
				out[name][k.Kid] = public
			}
		}
		return out
	}
	t := &Trust{apps: read(RoleApp, f.Apps), services: read(RoleService, f.Services)}
	if len(f.Apps)+len(f.Services) == 0 {
		faults = append(faults, errors.New("it names no app and no service"))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("trust file: %w", err)
	}
	return t, nil
}

func (t *Trust) names(role Role) map[string]map[string]ed25519.PublicKey {
	if role == RoleApp {
		return t.apps
	}
	return t.services
}

// Names lists the apps or services that have a key, sorted.
func (t *Trust) Names(role Role) []string { return slices.Sorted(maps.Keys(t.names(role))) }

// Knows reports whether the name has any key.
func (t *Trust) Knows(role Role, name string) bool { return len(t.names(role)[name]) > 0 }

// Kids lists the thumbprints of the keys bound to a name, sorted.
func (t *Trust) Kids(role Role, name string) []string {
	return slices.Sorted(maps.Keys(t.names(role)[name]))
}

// summary is each name with the thumbprints of its keys, for logs.
func (t *Trust) summary(role Role) []string {
	var out []string
	for _, name := range t.Names(role) {
		out = append(out, name+"="+strings.Join(t.Kids(role, name), ","))
	}
	return out
}

// key returns the public key with that thumbprint if it is bound to that role and name.
func (t *Trust) key(role Role, name, kid string) (ed25519.PublicKey, bool) {
	k, ok := t.names(role)[name][kid]
	return k, ok
}

// Trusts reports whether the key with that thumbprint is bound to that role and name.
func (t *Trust) Trusts(role Role, name, kid string) bool {
	_, ok := t.key(role, name, kid)
	return ok
}
