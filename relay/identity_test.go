package relay

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The key and thumbprint of RFC 8037, appendices A.1 to A.3.
func TestThumbprintOfRFC8037(t *testing.T) {
	k := JWK{Kty: "OKP", Crv: "Ed25519", X: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", D: "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}
	const want = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
	if got := k.Thumbprint(); got != want {
		t.Errorf("thumbprint %s, want %s", got, want)
	}
	id, err := k.Identity()
	if err != nil || id.Kid() != want || id.Private().D != k.D {
		t.Errorf("%v", err)
	}
}

// An independent EC thumbprint: members in lexicographic order, no white space (RFC 7638 §3).
func TestThumbprintOfP256(t *testing.T) {
	k := fixedInstanceKey(t, "instance").Public()
	m, err := marshal(map[string]string{"y": k.Y, "x": k.X, "kty": "EC", "crv": "P-256"})
	if err != nil {
		t.Fatal(err)
	}
	if got := encodeBase64(sha256Of(m)); got != k.Thumbprint() || !validKid(got) {
		t.Errorf("%s, want %s", k.Thumbprint(), got)
	}
}

func TestIdentityRoundTrip(t *testing.T) {
	id := NewIdentity()
	b, err := PrettyJSON(id.Private())
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseIdentity(b)
	if err != nil || again.Kid() != id.Kid() || again.Private() != id.Private() || again.IsZero() {
		t.Errorf("%v", err)
	}
	if id.Public().D != "" || id.Public().Kid != id.Kid() || NewIdentity().Kid() == id.Kid() {
		t.Error("public key")
	}
	if z := (Identity{}); !z.IsZero() || z.Kid() != "" {
		t.Error("the zero identity is something")
	}
}

func TestParseIdentityRefuses(t *testing.T) {
	good := fixedIdentity("app ui").Private()
	other := fixedIdentity("app other").Private()
	for name, edit := range map[string]func(*JWK){
		"public": func(k *JWK) { k.D = "" }, "d short": func(k *JWK) { k.D = k.D[:40] }, "d padded": func(k *JWK) { k.D += "=" },
		"d of another": func(k *JWK) { k.D = other.D }, "x of another": func(k *JWK) { k.X = other.X; k.Kid = "" }, "kid of another": func(k *JWK) { k.Kid = other.Kid },
		"kty": func(k *JWK) { k.Kty = "EC" }, "crv": func(k *JWK) { k.Crv = "X25519" }, "y": func(k *JWK) { k.Y = k.X }, "use": func(k *JWK) { k.Use = "enc" }, "alg": func(k *JWK) { k.Alg = "ES256" },
		"x missing": func(k *JWK) { k.X = "" }, "d with a spare bit": func(k *JWK) { k.D = flipped(t, k.D) },
	} {
		k := good
		edit(&k)
		b, err := marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		id, err := ParseIdentity(b)
		if err == nil || !id.IsZero() {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), good.D) || strings.Contains(err.Error(), other.D) {
			t.Errorf("%s: %v shows the key", name, err)
		}
	}
	for _, doc := range []string{"", "{}", "null", `"` + good.D + `"`, good.D, `{"keys":[]}`, `{"d":"` + good.D + `","secret":"` + good.D + `"}`} {
		if _, err := ParseIdentity([]byte(doc)); err == nil || strings.Contains(err.Error(), good.D) {
			t.Errorf("%.20q: %v", doc, err)
		}
	}
}

func TestLoadIdentity(t *testing.T) {
	b, err := PrettyJSON(fixedIdentity("app ui").Private())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.json")
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o700: true, 0o640: false, 0o604: false, 0o610: false, 0o602: false, 0o666: false} {
		_ = os.Remove(file)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadIdentity(file)
		if !modeless && (err == nil) != ok {
			t.Errorf("mode %04o: %v", mode, err)
		}
		if err != nil && !strings.Contains(err.Error(), "chmod 600 "+file) {
			t.Errorf("the error does not say what to do: %v", err)
		}
	}
	if _, err := LoadIdentity(filepath.Dir(file)); err == nil {
		t.Error("a directory was read")
	}
	if _, err := LoadIdentity(file + "x"); err == nil || !strings.Contains(err.Error(), file+"x") {
		t.Errorf("missing: %v", err)
	}
	_ = os.Remove(file)
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadIdentity(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("empty: %v", err)
	}
}

func TestNewInstanceKey(t *testing.T) {
	a, err := NewInstanceKey(fixedNow)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewInstanceKey(fixedNow)
	if err != nil {
		t.Fatal(err)
	}
	if a.Kid() == b.Kid() || !a.Expiry().Equal(fixedNow) || a.DestroyAt().Sub(a.Expiry()) != 330*time.Second {
		t.Errorf("%v %v", a, b)
	}
	if public, err := a.Public().p256(); err != nil || !public.Equal(&a.private.PublicKey) {
		t.Errorf("%v", err)
	}
}

// Who gives a secret where the name of a file belongs does not find it in the log.
func TestSecretsGivenAsNamesAreNotShown(t *testing.T) {
	jwk, err := marshal(fixedIdentity("app ui").Private())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{string(jwk), jwtToken(fixedNow), jwtToken(fixedNow) + "\n", "dapi" + strings.Repeat("0a", 16), fixedIdentity("app ui").Private().D, "-----BEGIN PRIVATE KEY-----"} {
		if _, err := ReadSecretFile(secret); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%v", err)
		}
	}
	for _, name := range []string{"token", "obo/key.json", strings.Repeat("a", 40) + ".json", "./" + strings.Repeat("a", 40)} {
		if _, err := ReadSecretFile(name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v", err)
		}
	}
}
