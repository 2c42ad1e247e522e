package relay

import (
	"bytes"
	"crypto/elliptic"
	"encoding/base64"
	stdjson "encoding/json"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

// Our strict check and go-jose read the same objects: what we accept, go-jose parses into the same parts, and what go-jose
// parses and we do not differs from our one spelling in a way that is listed in knownDifference.

func FuzzJWS(f *testing.F) {
	const typ = GrantTypeName + "+jwt"
	f.Fuzz(func(t *testing.T, compact string) {
		kid, err := checkJWSForm(compact, typ)
		jws, joseErr := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.EdDSA})
		if err != nil {
			if joseErr == nil && knownDifference(strings.Split(compact, "."), map[string]string{"alg": "EdDSA", "typ": typ}, nil) == "" {
				t.Errorf("go-jose parses it, and nothing says why we refuse it (%v): %s", err, compact)
			}
			return
		}
		if joseErr != nil {
			t.Fatalf("go-jose does not parse it: %v", joseErr)
		}
		parts := strings.Split(compact, ".")
		sig := jws.Signatures[0]
		if sig.Header.KeyID != kid || sig.Header.Algorithm != "EdDSA" || sig.Protected.ExtraHeaders["typ"] != typ ||
			encodeBase64(jws.UnsafePayloadWithoutVerification()) != parts[1] || encodeBase64(sig.Signature) != parts[2] {
			t.Errorf("go-jose reads it otherwise: %s", compact)
		}
		if again, err := jws.CompactSerialize(); err != nil || again != compact {
			t.Errorf("go-jose writes it otherwise: %s %v", again, err)
		}
	})
}

func FuzzJWE(f *testing.F) {
	f.Fuzz(func(t *testing.T, compact string) {
		kid, err := checkGrantForm(compact)
		jwe, joseErr := jose.ParseEncryptedCompact(compact, []jose.KeyAlgorithm{jose.ECDH_ES}, []jose.ContentEncryption{jose.A256GCM})
		if err != nil {
			if joseErr == nil && len(compact) <= MaxGrant && knownDifference(strings.Split(compact, "."), map[string]string{"alg": "ECDH-ES", "enc": "A256GCM", "cty": "JWT"}, []string{"epk"}) == "" {
				t.Errorf("go-jose parses it, and nothing says why we refuse it (%v): %s", err, compact)
			}
			return
		}
		if joseErr != nil {
			t.Fatalf("go-jose does not parse it: %v", joseErr)
		}
		if jwe.Header.KeyID != kid || jwe.Header.Algorithm != "ECDH-ES" {
			t.Errorf("go-jose reads another header: %s", compact)
		}
		again, err := jwe.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		// go-jose writes the header's members in its own order, and everything else as it was.
		header, rest, _ := strings.Cut(compact, ".")
		header2, rest2, _ := strings.Cut(again, ".")
		if rest != rest2 || canonical(t, unpad(t, header)) != canonical(t, unpad(t, header2)) {
			t.Errorf("go-jose writes it otherwise: %s", again)
		}
	})
}

// knownDifference says in which known way an object that go-jose parses is not ours. It shares no code with our check:
// the members are read with encoding/json, which forgives what we do not.
func knownDifference(parts []string, fixed map[string]string, objects []string) string {
	for i, p := range parts {
		if len(parts) == 5 && i == 1 {
			if p != "" {
				return "an encrypted key"
			}
			continue
		}
		raw, err := base64.RawURLEncoding.DecodeString(p)
		size := len(raw)
		switch {
		case err != nil || base64.RawURLEncoding.EncodeToString(raw) != p:
			return "another base64url of the same bytes"
		case size == 0:
			return "an empty part"
		case len(parts) == 5 && (i == 2 && size != 12 || i == 4 && size != 16 || i == 0 && size > 1024):
			return "the size of a part"
		}
	}
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	if !utf8.Valid(header) || bytes.Contains(bytes.ToLower(header), []byte(`\ud`)) {
		return "no Unicode" // or a surrogate that may stand alone: encoding/json reads both as U+FFFD
	}
	members, ok := readMembers(header)
	if !ok || len(members) != len(fixed)+len(objects)+1 {
		return "the set of members"
	}
	for name, want := range fixed {
		if members[name] != want {
			return "the value of " + name
		}
	}
	kid, _ := members["kid"].(string)
	if raw, err := base64.RawURLEncoding.DecodeString(kid); err != nil || len(raw) != 32 || base64.RawURLEncoding.EncodeToString(raw) != kid {
		return "the kid is no thumbprint"
	}
	for _, name := range objects {
		epk, ok := members[name].(map[string]any)
		if !ok || len(epk) != 4 {
			return "the members of " + name
		}
		var point [2]*big.Int
		for i, c := range []string{"x", "y"} {
			s, _ := epk[c].(string)
			raw, err := base64.RawURLEncoding.DecodeString(s)
			if err != nil || len(raw) != 32 || base64.RawURLEncoding.EncodeToString(raw) != s {
				return "a coordinate's spelling"
			}
			point[i] = new(big.Int).SetBytes(raw)
		}
		if epk["kty"] != "EC" || epk["crv"] != "P-256" || !onP256(point[0], point[1]) {
			return "the curve of " + name
		}
	}
	return ""
}

// onP256: y² = x³ - 3x + b, both coordinates below p.
func onP256(x, y *big.Int) bool {
	c := elliptic.P256().Params()
	right := new(big.Int).Exp(x, big.NewInt(3), nil)
	right.Sub(right, new(big.Int).Mul(x, big.NewInt(3))).Add(right, c.B).Mod(right, c.P)
	left := new(big.Int).Exp(y, big.NewInt(2), c.P)
	return x.Cmp(c.P) < 0 && y.Cmp(c.P) < 0 && left.Cmp(right) == 0
}

// readMembers reads an object, and the objects in it; not ok if a name stands in it twice.
func readMembers(b []byte) (map[string]any, bool) {
	d := stdjson.NewDecoder(bytes.NewReader(b))
	var read func() (any, bool)
	read = func() (any, bool) {
		token, err := d.Token()
		if err != nil {
			return nil, false
		}
		if token != stdjson.Delim('{') {
			_, nested := token.(stdjson.Delim)
			return token, !nested
		}
		out := map[string]any{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, false
			}
			value, ok := read()
			if _, twice := out[name.(string)]; twice || !ok {
				return nil, false
			}
			out[name.(string)] = value
		}
		_, err = d.Token()
		return out, err == nil
	}
	v, ok := read()
	members, isObject := v.(map[string]any)
	return members, ok && isObject && !d.More()
}

// Whatever a service signs, what is accepted is what the schema allows, encodes to the same claims, and is accepted again.
func FuzzAnnouncementClaims(f *testing.F) {
	trust, schema := fixedTrust(f), compileSchemas(f)[AnnouncementTypeName]
	f.Fuzz(func(t *testing.T, header, payload string) {
		compact := rawJWS("service middleware", header, payload)
		a, err := trust.VerifyAnnouncement(serviceName, []byte(compact), fixedNow)
		if err != nil {
			return
		}
		if kid, err := checkJWSForm(compact, AnnouncementTypeName+"+jwt"); err != nil || kid != fixedIdentity("service middleware").Kid() {
			t.Errorf("accepted under the header %s", header)
		}
		b, err := marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(schema, b); err != nil {
			t.Errorf("the schema refuses %s: %v", b, err)
		}
		again, err := trust.VerifyAnnouncement(serviceName, []byte(rawJWS("service middleware", jwsHeaderOf("service middleware", AnnouncementTypeName+"+jwt"), string(b))), fixedNow)
		if err != nil || !again.recipient.Equal(a.recipient) {
			t.Fatalf("%s: %v", b, err)
		}
		again.recipient = a.recipient
		if *again != *a {
			t.Errorf("%s is read otherwise the second time", payload)
		}
		if a.Expiry-a.IssuedAt > 20 || a.IssuedAt-30 > fixedNow.Unix() || a.Expiry+30 < fixedNow.Unix() || a.Service != serviceName {
			t.Errorf("accepted: %s", payload)
		}
	})
}

// Whatever an app signs and seals, what opens is what the schema allows, within the limits of its life.
func FuzzGrantClaims(f *testing.F) {
	o, schema := fixedOpener(f), compileSchemas(f)[GrantTypeName]
	key := fixedInstanceKey(f, "instance")
	f.Fuzz(func(t *testing.T, header, payload string, opaque bool) {
		o := *o
		o.Opaque = opaque
		open := func(header, payload string) (*Grant, error) {
			return o.Open(jwe{plaintext: rawJWS("app ui", header, payload)}.seal(t, key), appName, fixedNow)
		}
		g, err := open(header, payload)
		if err != nil {
			return
		}
		var c GrantClaims
		if err := unmarshalStrict([]byte(payload), &c); err != nil {
			t.Fatalf("opened: %v", err)
		}
		b, err := marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(schema, b); err != nil {
			t.Errorf("the schema refuses %s: %v", b, err)
		}
		again, err := open(jwsHeaderOf("app ui", GrantTypeName+"+jwt"), string(b))
		if err != nil || again.Gid != g.Gid || !again.Expiry.Equal(g.Expiry) || again.Token.Reveal() != g.Token.Reveal() || *again.keys.prk() != *g.keys.prk() {
			t.Fatalf("%s is read otherwise the second time: %v", payload, err)
		}
		most := MaxGrantLife
		if g.Token.Opaque() {
			most = MaxOpaqueLife
		}
		if g.App != appName || g.Service != serviceName || g.Rkid != key.Kid() || g.SignedBy != fixedIdentity("app ui").Kid() || g.Token.Opaque() && !opaque ||
			g.Expiry.Add(Leeway).Before(fixedNow) || time.Unix(c.IssuedAt, 0).Add(-Leeway).After(fixedNow) || g.Expiry.Sub(time.Unix(c.IssuedAt, 0)) > most {
			t.Errorf("opened: %s", payload)
		}
	})
}

// A sealed or signed object with any change to the bytes of any part, each part encoded anew as it must be, is refused.
func FuzzMutated(f *testing.F) {
	trust, o := fixedTrust(f), fixedOpener(f)
	announcement, err := fixedAnnouncement().Sign(fixedIdentity("service middleware"), fixedInstanceKey(f, "instance"), fixedNow)
	if err != nil {
		f.Fatal(err)
	}
	grant := grantOf(f, fixedClaims(f))
	accepted := map[string]func(string) bool{
		announcement: func(s string) bool {
			_, err := trust.VerifyAnnouncement(serviceName, []byte(s), fixedNow)
			return err == nil
		},
		grant: func(s string) bool { _, err := o.Open(s, appName, fixedNow); return err == nil },
	}
	for object, accepts := range accepted {
		if !accepts(object) {
			f.Fatalf("the original is refused: %s", object)
		}
	}
	f.Fuzz(func(t *testing.T, which bool, part byte, position uint16, remove byte, insert []byte) {
		object := announcement
		if which {
			object = grant
		}
		parts := strings.Split(object, ".")
		i := int(part) % len(parts)
		raw := unpad(t, parts[i])
		at := int(position) % (len(raw) + 1)
		changed := append(bytes.Clone(raw[:at]), insert...)
		changed = append(changed, raw[min(len(raw), at+int(remove)):]...)
		if accepted[object](replacePart(parts, i, encodeBase64(changed))) != bytes.Equal(raw, changed) {
			t.Errorf("part %d: %x instead of %x", i, changed, raw)
		}
	})
}

// A token is carried as it is or refused, and never shown.
func FuzzToken(f *testing.F) {
	f.Fuzz(func(t *testing.T, value string) {
		token, err := NewToken(value)
		if err != nil {
			if len(value) > 3 && strings.Contains(err.Error(), value) && !strings.Contains("token_missing token_malformed: the access token has limit characters other than visible ASCII", value) {
				t.Errorf("the error shows it: %v", err)
			}
			return
		}
		if token.Reveal() != value || token.IsZero() || len(value) > MaxToken || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q becomes %q", value, token.Reveal())
		}
		if token.Opaque() != token.Expiry().IsZero() || token.Opaque() && token.ExpiredAt(time.Unix(1<<50, 0)) {
			t.Errorf("%q: opaque %v, expires %v", value, token.Opaque(), token.Expiry())
		}
		if !token.Opaque() { // the same exp as another decoder reads
			var claims map[string]any
			payload, err := base64.RawURLEncoding.DecodeString(strings.Split(value, ".")[1])
			if err != nil || stdjson.Unmarshal(payload, &claims) != nil {
				t.Fatalf("%q is no JWT", value)
			}
			if exp, ok := claims["exp"].(float64); !ok || int64(exp) != token.Expiry().Unix() || !reflect.DeepEqual(token.Expiry(), time.Unix(int64(exp), 0)) {
				t.Errorf("exp of %q is read as %v", value, token.Expiry())
			}
		}
	})
}
