package relay

import (
	"strings"
	"testing"
)

func TestKitReportsAllFaults(t *testing.T) {
	k := Kit{Type: "x", Role: RoleService, Name: "Bad Name", Key: fixedIdentity("app ui").Public(), Trust: TrustFile{}}
	_, err := ParseKit(encode(t, k), RoleApp)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"type is not", "two kits may be swapped", "name is not a name", "private key: d", "trust file"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
}

func TestKitErrorsShowNoSecret(t *testing.T) {
	key := fixedIdentity("app ui").Private()
	k := Kit{Type: KitTypeName, Role: RoleApp, Name: canary, NKey: canary, Key: key, NATS: "nats://u:" + canary + "@h"}
	k.Key.X = "AAAA"
	for _, doc := range []string{string(encode(t, k)), canary, `{"nkey":"` + canary, `{"key":{"d":"` + key.D + `","z":1}}`, `"` + canary + `"`} {
		if _, err := ParseKit([]byte(doc), RoleApp); err == nil || strings.Contains(err.Error(), canary) || strings.Contains(err.Error(), key.D) {
			t.Errorf("%v", err)
		}
	}
}
