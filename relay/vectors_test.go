package relay

import (
	"encoding/hex"
	"path/filepath"
	"testing"
)

// A vectors file is one area of PROTOCOL.md; testdata/vectors/README.md says how to read them. The files are made by
// the tests with -update from fixed keys, and every run checks that they still come out the same.

// vectorKeys is keys.json: the fixed world that the other files stand in.
type vectorKeys struct {
	Comment    string            `json:"comment"`
	Now        int64             `json:"now"`
	Identities map[string]JWK    `json:"identities"`
	Instances  map[string]rawKey `json:"instances"`
	Trust      TrustFile         `json:"trust"`
}

type rawKey struct {
	Public JWK    `json:"public"`
	D      string `json:"d"`
	Kid    string `json:"kid"`
}

func vectorPath(name string) string { return filepath.Join("testdata", "vectors", name) }

// vectors checks a vectors file against what the code makes, and returns it as it is on disk.
func vectors[T any](t testing.TB, name string, made T) T {
	t.Helper()
	want, err := PrettyJSON(made)
	if err != nil {
		t.Fatal(err)
	}
	if tt, ok := t.(*testing.T); ok {
		golden(tt, vectorPath(name), want)
	}
	var out T
	if err := unmarshalStrict(readFile(t, vectorPath(name)), &out); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVectorKeys(t *testing.T) {
	made := vectorKeys{
		Comment: "Every private key is SHA-256 of \"obo test vector \" and its name here. Test keys: never use them.",
		Now:     fixedNow.Unix(), Identities: map[string]JWK{}, Instances: map[string]rawKey{}, Trust: fixedTrustFile(),
	}
	for _, name := range []string{"app ui", "app other", "service middleware", "service billing", "attacker"} {
		made.Identities[name] = fixedIdentity(name).Private()
	}
	for _, name := range []string{"instance", "other instance", "ephemeral"} {
		key := fixedInstanceKey(t, name)
		made.Instances[name] = rawKey{key.Public(), encodeBase64(seed(name)), key.Kid()}
	}
	keys := vectors(t, "keys.json", made)
	for name, k := range keys.Identities {
		id, err := k.Identity()
		if err != nil || id.Kid() != k.Kid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := keys.Trust.Trust(); err != nil {
		t.Error(err)
	}
}
