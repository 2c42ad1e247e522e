package relay

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// JWK is the subset of RFC 7517 that obo uses: public or private Ed25519 keys (RFC 8037) and public P-256 keys (RFC 7518 §6.2).
type JWK struct {
	Kty string `json:"kty"`
	Crv string `json:"crv"`
	X   string `json:"x"`
	Y   string `json:"y,omitzero"`
	D   string `json:"d,omitzero"`
	Kid string `json:"kid,omitzero"`
	Use string `json:"use,omitzero"`
	Alg string `json:"alg,omitzero"`
}

// Format hides d, the private part, from every fmt verb.
func (k JWK) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, "[jwk "+k.Thumbprint()+"]") }

// LogValue hides d from slog.
func (k JWK) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(k)) }

// Thumbprint is the key's RFC 7638 thumbprint with SHA-256, base64url.
func (k JWK) Thumbprint() string {
	var canonical string
	if k.Kty == "EC" {
		canonical = fmt.Sprintf(`{"crv":%q,"kty":%q,"x":%q,"y":%q}`, k.Crv, k.Kty, k.X, k.Y)
	} else {
		canonical = fmt.Sprintf(`{"crv":%q,"kty":%q,"x":%q}`, k.Crv, k.Kty, k.X)
	}
	sum := sha256.Sum256([]byte(canonical))
	return encodeBase64(sum[:])
}

// ed25519 returns the public key, and refuses a JWK that carries anything unexpected.
func (k JWK) ed25519() (ed25519.PublicKey, error) {
	switch {
	case k.Kty != "OKP" || k.Crv != "Ed25519" || k.Y != "":
		return nil, errors.New("not an Ed25519 key (want kty OKP, crv Ed25519)")
	case k.D != "":
		return nil, errors.New("a private key where a public one belongs")
	case k.Use != "" && k.Use != "sig":
		return nil, errors.New("use is not sig")
	case k.Alg != "" && k.Alg != "EdDSA":
		return nil, errors.New("alg is not EdDSA")
	}
	x, err := decodeBase64(k.X)
	if err != nil || len(x) != ed25519.PublicKeySize {
		return nil, errors.New("x is not 32 bytes of base64url")
	}
	if k.Kid != "" && k.Kid != k.Thumbprint() {
		return nil, errors.New("kid is not the key's RFC 7638 thumbprint " + k.Thumbprint())
	}
	return x, nil
}

// Identity is the private signing key of an app or a service. Like Token it cannot be printed.
type Identity struct {
	key func() *identityKey // see Token for why it is a function
}

type identityKey struct {
	private ed25519.PrivateKey
	kid     string
}

// NewIdentity makes a fresh identity.
func NewIdentity() Identity {
	_, private, _ := ed25519.GenerateKey(rand.Reader) // crypto/rand never fails (Go 1.24)
	return identityOf(private)
}

func identityOf(private ed25519.PrivateKey) Identity {
	key := &identityKey{private, publicJWK(private.Public().(ed25519.PublicKey)).Kid}
	return Identity{func() *identityKey { return key }}
}

func publicJWK(public ed25519.PublicKey) JWK {
	k := JWK{Kty: "OKP", Crv: "Ed25519", X: encodeBase64(public), Use: "sig", Alg: "EdDSA"}
	k.Kid = k.Thumbprint()
	return k
}

// ParseIdentity reads a private Ed25519 JWK. The error never holds any part of the key.
func ParseIdentity(data []byte) (Identity, error) {
	var k JWK
	if err := unmarshalStrict(data, &k); err != nil {
		return Identity{}, fmt.Errorf("private key: %w (want an Ed25519 JWK as obo init writes it)", err)
	}
	return k.Identity()
}

// Identity returns the signing key that a private JWK holds.
func (k JWK) Identity() (Identity, error) {
	seed, err := decodeBase64(k.D)
	if err != nil || len(seed) != ed25519.SeedSize {
		return Identity{}, errors.New("private key: d is not 32 bytes of base64url")
	}
	public := k
	public.D = ""
	x, err := public.ed25519()
	if err != nil {
		return Identity{}, fmt.Errorf("private key: %w", err)
	}
	private := ed25519.NewKeyFromSeed(seed)
	if !private.Public().(ed25519.PublicKey).Equal(x) {
		return Identity{}, errors.New("private key: d and x do not belong together")
	}
	return identityOf(private), nil
}

// LoadIdentity reads a key file and refuses one that others may read.
func LoadIdentity(path string) (Identity, error) {
	data, err := ReadSecretFile(path)
	if err != nil {
		return Identity{}, err
	}
	id, err := ParseIdentity(data)
	if err != nil {
		return Identity{}, fmt.Errorf("%s: %w", path, err)
	}
	return id, nil
}

// ReadSecretFile reads a file with a private key, a seed or a token. It refuses a file that group or others may read, and says
// which command mends it.
func ReadSecretFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil && looksSecret(path) { // the error would show it
		return nil, errors.New("this is no file, and looks like the secret itself: give it without -file (_FILE) at the end of the name")
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of the file that is read, not of one that stood there before
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && !modeless {
		return nil, fmt.Errorf("%s has mode %04o, so others can read the secret in it: chmod 600 %s", path, mode, path)
	}
	return io.ReadAll(f)
}

// looksSecret reports whether what should be the name of a file is more likely a document, a seed or a token.
func looksSecret(path string) bool {
	if strings.ContainsAny(path, "{\n") || strings.HasPrefix(path, "-----BEGIN") || len(path) >= 32 && !strings.ContainsAny(path, `/\.`) {
		return true
	}
	token, err := NewToken(strings.TrimSpace(path))
	return err == nil && !token.Opaque()
}

// IsZero reports whether there is no key.
func (id Identity) IsZero() bool { return id.key == nil }

// Kid is the thumbprint of the public key.
func (id Identity) Kid() string {
	if id.key == nil {
		return ""
	}
	return id.key().kid
}

// Public is the key that belongs into the other side's trust file.
func (id Identity) Public() JWK { return publicJWK(id.key().private.Public().(ed25519.PublicKey)) }

// Private is the whole key, for writing a key file or kit.
func (id Identity) Private() JWK {
	k := id.Public()
	k.D = encodeBase64(id.key().private.Seed())
	return k
}

// String shows which key it is, not the key.
func (id Identity) String() string { return "[identity " + id.Kid() + "]" }

// GoString hides the key from %#v.
func (id Identity) GoString() string { return id.String() }
