package relay

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTrust(t *testing.T) {
	f := fixedTrustFile()
	second := NewIdentity()
	f.Apps[appName] = JWKS{Keys: append(f.Apps[appName].Keys, second.Public())}
	b, err := PrettyJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := ParseTrust(b)
	if err != nil {
		t.Fatal(err)
	}
	first := fixedIdentity("app ui")
	if got := trust.Names(RoleApp); !slices.Equal(got, []string{"other", appName}) {
		t.Errorf("apps %v", got)
	}
	want := []string{first.Kid(), second.Kid()}
	slices.Sort(want)
	if got := trust.Kids(RoleApp, appName); !slices.Equal(got, want) {
		t.Errorf("kids %v", got)
	}
	for _, c := range []struct {
		role Role
		name string
		kid  string
		want bool
	}{
		{RoleApp, appName, first.Kid(), true}, {RoleApp, appName, second.Kid(), true}, {RoleApp, "other", first.Kid(), false},
		{RoleService, appName, first.Kid(), false}, {RoleService, serviceName, first.Kid(), false}, {RoleApp, serviceName, fixedIdentity("service middleware").Kid(), false},
		{RoleService, serviceName, fixedIdentity("service middleware").Kid(), true}, {RoleApp, "", first.Kid(), false}, {RoleApp, appName, "", false}, {"", appName, first.Kid(), false},
	} {
		if got := trust.Trusts(c.role, c.name, c.kid); got != c.want {
			t.Errorf("Trusts(%s, %s, %s) = %v", c.role, c.name, c.kid, got)
		}
	}
	if !trust.Knows(RoleApp, appName) || trust.Knows(RoleService, appName) || trust.Knows(RoleApp, "nobody") {
		t.Error("Knows")
	}
}

// All faults at once, each with role, name and the number of the key.
func TestTrustReportsAllFaults(t *testing.T) {
	f := fixedTrustFile()
	f.Type = "x"
	noKid := fixedIdentity("app ui").Public()
	noKid.Kid = ""
	f.Apps["Bad Name"] = JWKS{}
	f.Apps["empty"] = JWKS{}
	f.Services["two"] = JWKS{Keys: []JWK{fixedIdentity("app ui").Private(), noKid}}
	_, err := f.Trust()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{`type is "x"`, `app "Bad Name"`, `app "empty" has no keys`, `service "two", key 1: a private key`, `service "two", key 2: kid is missing; it is ` + fixedIdentity("app ui").Kid()} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
	if strings.Contains(err.Error(), fixedIdentity("app ui").Private().D) {
		t.Errorf("a private key is in: %v", err)
	}
}

func TestLoadTrust(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trust.json")
	if _, err := LoadTrust(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("missing: %v", err)
	}
	for text, ok := range map[string]bool{"": false, "{}": false, string(encode(t, fixedTrustFile())): true} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadTrust(file); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), file) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// Whatever is accepted is accepted by the schema too, and encodes and decodes to the same trust.
func FuzzTrust(f *testing.F) {
	schema := compileSchemas(f)[TrustTypeName]
	f.Fuzz(func(t *testing.T, data []byte) {
		trust, err := ParseTrust(data)
		if err != nil {
			return
		}
		var file TrustFile
		if err := unmarshalStrict(data, &file); err != nil {
			t.Fatal(err)
		}
		b := encode(t, file)
		if err := validate(schema, b); err != nil {
			t.Errorf("the schema refuses %s: %v", b, err)
		}
		again, err := ParseTrust(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, role := range []Role{RoleApp, RoleService} {
			if !slices.Equal(trust.Names(role), again.Names(role)) {
				t.Error("other names")
			}
			for _, name := range trust.Names(role) {
				if !ValidName(name) || !trust.Knows(role, name) || !slices.Equal(trust.Kids(role, name), again.Kids(role, name)) {
					t.Errorf("%s %s", role, name)
				}
			}
		}
	})
}
