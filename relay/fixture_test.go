package relay

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The fixed world of tests and vectors. Every key comes from SHA-256 of a label, so that anyone can make it again.
const (
	appName     = "ui"
	serviceName = "middleware"
	instanceID  = "abcdefghij234567"
)

var fixedNow = time.Unix(1_750_000_000, 0)

func seed(label string) []byte {
	sum := sha256.Sum256([]byte("obo test vector " + label))
	return sum[:]
}

func fixedIdentity(label string) Identity { return identityOf(ed25519.NewKeyFromSeed(seed(label))) }

func fixedID(label string) (id ID) {
	copy(id[:], seed(label))
	return id
}

func ecdsaKey(t testing.TB, label string) *ecdsa.PrivateKey {
	t.Helper()
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed(label))
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func fixedInstanceKey(t testing.TB, label string) *InstanceKey {
	t.Helper()
	key, err := instanceKeyOf(ecdsaKey(t, label), fixedNow.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// fixedTrust trusts the app ui, the app other, the service middleware and the service billing, one key each.
func fixedTrust(t testing.TB) *Trust {
	t.Helper()
	trust, err := fixedTrustFile().Trust()
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

func fixedTrustFile() TrustFile {
	set := func(label string) JWKS { return JWKS{Keys: []JWK{fixedIdentity(label).Public()}} }
	return TrustFile{
		Type:     TrustTypeName,
		Apps:     map[string]JWKS{appName: set("app ui"), "other": set("app other")},
		Services: map[string]JWKS{serviceName: set("service middleware"), "billing": set("service billing")},
	}
}

// jwtToken is a token that looks like a JWT and runs out at exp.
func jwtToken(exp time.Time) string {
	payload, _ := marshal(map[string]int64{"exp": exp.Unix()})
	return encodeBase64([]byte(`{"alg":"none"}`)) + "." + encodeBase64(payload) + "." + encodeBase64([]byte("not a signature"))
}

func mustToken(t testing.TB, value string) Token {
	t.Helper()
	token, err := NewToken(value)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func fixedAnnouncement() Announcement {
	return Announcement{
		Service: serviceName, Instance: instanceID, Seq: 1, State: Ready, InFlight: 0, Capacity: 64,
		MaxBody: 0, Version: "1.0.0", Server: "NTEST",
	}
}

// verifiedAnnouncement is what a publisher holds of the fixed worker.
func verifiedAnnouncement(t testing.TB) *Announcement {
	t.Helper()
	compact, err := fixedAnnouncement().Sign(fixedIdentity("service middleware"), fixedInstanceKey(t, "instance"), fixedNow)
	if err != nil {
		t.Fatal(err)
	}
	a, err := fixedTrust(t).VerifyAnnouncement(serviceName, []byte(compact), fixedNow)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func fixedOpener(t testing.TB) *Opener {
	t.Helper()
	key := fixedInstanceKey(t, "instance")
	return &Opener{Service: serviceName, Trust: fixedTrust(t), Key: func(kid string) *InstanceKey {
		if kid == key.Kid() {
			return key
		}
		return nil
	}}
}

func fixedClaims(t testing.TB) GrantClaims {
	return GrantClaims{
		App: appName, Service: serviceName, Rkid: fixedInstanceKey(t, "instance").Kid(), Gid: fixedID("gid"),
		IssuedAt: fixedNow.Unix(), Expiry: fixedNow.Add(MaxGrantLife).Unix(),
		Secret: encodeBase64(seed("secret")), Token: jwtToken(fixedNow.Add(time.Hour)),
	}
}

// rawJWS signs any header and payload, also ones that Identity.sign would never make.
func rawJWS(label, header, payload string) string {
	input := encodeBase64([]byte(header)) + "." + encodeBase64([]byte(payload))
	return input + "." + encodeBase64(ed25519.Sign(ed25519.NewKeyFromSeed(seed(label)), []byte(input)))
}

func jwsHeaderOf(label, typ string) string {
	return `{"alg":"EdDSA","kid":"` + fixedIdentity(label).Kid() + `","typ":"` + typ + `"}`
}

// jwe is ECDH-ES with A256GCM (RFC 7518 §4.6) by hand, with a fixed ephemeral key and IV: an independent implementation
// to test go-jose against, and a way to make what go-jose would not.
type jwe struct {
	header    string // empty: the right one
	extra     string // members added to the right header, with their comma
	kid       string
	apu       string // bytes that go into the KDF
	ephemeral string // label of the ephemeral key
	encrypted string // second part
	shared    []byte // instead of what the ephemeral key and the recipient's agree on
	plaintext string
}

func (j jwe) seal(t testing.TB, to *InstanceKey) string {
	t.Helper()
	if j.ephemeral == "" {
		j.ephemeral = "ephemeral"
	}
	if j.kid == "" {
		j.kid = to.Kid()
	}
	private := ecdsaKey(t, j.ephemeral)
	public, err := instanceKeyOf(private, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	epk, err := marshal(public.Public())
	if err != nil {
		t.Fatal(err)
	}
	if j.header == "" {
		j.header = `{"alg":"ECDH-ES","enc":"A256GCM","cty":"JWT","kid":"` + j.kid + `","epk":` + string(epk) + j.extra + `}`
	}
	mine, err := private.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := to.private.PublicKey.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	z, err := mine.ECDH(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if j.shared != nil {
		z = j.shared
	}
	block, err := aes.NewCipher(concatKDF(z, j.apu))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	iv := seed("iv")[:12]
	protected := encodeBase64([]byte(j.header))
	sealed := aead.Seal(nil, iv, []byte(j.plaintext), []byte(protected))
	n := len(sealed) - 16
	return protected + "." + j.encrypted + "." + encodeBase64(iv) + "." + encodeBase64(sealed[:n]) + "." + encodeBase64(sealed[n:])
}

// concatKDF is one round of NIST SP 800-56A §5.8.1 with SHA-256, as RFC 7518 §4.6.2 has it for A256GCM.
func concatKDF(z []byte, apu string) []byte {
	input := binary.BigEndian.AppendUint32(nil, 1)
	input = append(input, z...)
	for _, s := range []string{"A256GCM", apu, ""} {
		input = binary.BigEndian.AppendUint32(input, uint32(len(s)))
		input = append(input, s...)
	}
	input = binary.BigEndian.AppendUint32(input, 256)
	sum := sha256.Sum256(input)
	return sum[:]
}

// grantOf seals claims the right way with the fixed ephemeral key.
func grantOf(t testing.TB, c GrantClaims) string {
	t.Helper()
	payload, err := marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	inner := rawJWS("app ui", jwsHeaderOf("app ui", GrantTypeName+"+jwt"), string(payload))
	return jwe{plaintext: inner}.seal(t, fixedInstanceKey(t, "instance"))
}

func replacePart(parts []string, i int, with string) string {
	out := slices.Clone(parts)
	out[i] = with
	return strings.Join(out, ".")
}

// flipSpareBit changes a bit that base64 decoders ignore; not ok where the last character has none.
func flipSpareBit(s string) (string, bool) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(s)%4 == 0 {
		return "", false
	}
	last := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + alphabet[last^1:last^1+1], true
}

func sortCases[T any](cases []T, name func(T) string) {
	slices.SortStableFunc(cases, func(a, b T) int { return strings.Compare(name(a), name(b)) })
}

// hkdfByHand is RFC 5869 with SHA-256, no salt, and one block of output.
func hkdfByHand(ikm, info []byte) []byte {
	extract := hmac.New(sha256.New, make([]byte, sha256.Size))
	extract.Write(ikm)
	expand := hmac.New(sha256.New, extract.Sum(nil))
	expand.Write(info)
	expand.Write([]byte{1})
	return expand.Sum(nil)
}

func gcm(t testing.TB, key []byte) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

func sha256Of(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}
