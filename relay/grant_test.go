package relay

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

type grantVectors struct {
	Comment string      `json:"comment"`
	Cases   []grantCase `json:"cases"`
}

type grantCase struct {
	Name   string `json:"name"`
	App    string `json:"app"` // of the NATS subject
	Now    int64  `json:"now"`
	Opaque bool   `json:"opaque_allowed,omitempty"`
	Grant  string `json:"grant"`
	Want   string `json:"want"` // ok, or the step of PROTOCOL.md section 8 that refuses: form, key, open, header, signer, signature, claims
	Detail string `json:"detail,omitempty"`
	// What a grant that opens holds.
	Gid    ID     `json:"gid,omitzero"`
	Secret string `json:"secret,omitempty"`
	Token  string `json:"token,omitempty"`
}

// grantSteps says how the errors of Opener.Open name the step.
var grantSteps = map[string]string{
	"form": "grant", "key": "does not hold", "open": "cannot be opened", "header": "JWS", "signer": "trust file does not bind",
	"signature": "signature is wrong", "claims": "grant of app",
}

func grantCases(t testing.TB) grantVectors {
	now := fixedNow.Unix()
	key := fixedInstanceKey(t, "instance")
	claims := fixedClaims(t)
	v := grantVectors{Comment: "PROTOCOL.md section 6, at the worker of service middleware that holds the key \"instance\". app is the one of the NATS subject. All JWEs use the ephemeral key of keys.json and one IV, which only test data may."}
	add := func(name, want, detail, grant string) {
		v.Cases = append(v.Cases, grantCase{Name: name, App: appName, Now: now, Grant: grant, Want: want, Detail: detail})
	}
	last := func() *grantCase { return &v.Cases[len(v.Cases)-1] }
	valid := func(name string, c GrantClaims, now int64, opaque bool) {
		v.Cases = append(v.Cases, grantCase{name, appName, now, opaque, grantOf(t, c), "ok", "", c.Gid, c.Secret, c.Token})
	}
	edited := func(name, detail string, edit func(*GrantClaims)) {
		c := claims
		edit(&c)
		add(name, "claims", detail, grantOf(t, c))
	}
	text, _ := marshal(claims)
	payload := string(text)
	typ := GrantTypeName + "+jwt"
	header := jwsHeaderOf("app ui", typ)
	inner := rawJWS("app ui", header, payload)
	good := jwe{plaintext: inner}.seal(t, key)
	parts := strings.Split(good, ".")
	sealed := func(inner string) string { return jwe{plaintext: inner}.seal(t, key) }

	valid("valid", claims, now, false)
	valid("valid until 30 s after exp", claims, now+330, false)
	valid("valid from 30 s before iat", claims, now-30, false)
	opaque := claims
	opaque.Token, opaque.Expiry = "dapi0123456789abcdef", now+60
	valid("opaque token, allowed", opaque, now, true)
	add("opaque token, not allowed", "claims", "opaque", grantOf(t, opaque))
	short := claims
	short.Token, short.Expiry = jwtToken(fixedNow.Add(90*time.Second)), now+90
	valid("until the token's own exp", short, now, false)

	add("expired 31 s ago", "claims", "expired 31s ago", good)
	last().Now = now + 331
	add("from 31 s in the future", "claims", "31s in the future", good)
	last().Now = now - 31

	// The outer form: one spelling only.
	for i, name := range []string{"header", "encrypted key", "iv", "ciphertext", "tag"} {
		p := parts[i]
		add("padding after "+name, "form", "", replacePart(parts, i, p+"="))
		add("line break after "+name, "form", "", replacePart(parts, i, p+"\n"))
		add("space after "+name, "form", "", replacePart(parts, i, p+" "))
		if flipped, ok := flipSpareBit(p); ok && p != "" {
			add("spare bit in "+name, "form", "canonical", replacePart(parts, i, flipped))
		}
		if i != 1 {
			add("empty "+name, "form", "", replacePart(parts, i, ""))
		}
	}
	add("carriage return at the end", "form", "canonical", good+"\r")
	add("encrypted key not empty", "form", "encrypted key", replacePart(parts, 1, "AAAA"))
	add("iv of 16 bytes", "form", "right size", replacePart(parts, 2, encodeBase64(seed("iv")[:16])))
	add("tag of 12 bytes", "form", "right size", replacePart(parts, 4, parts[4][:16]))
	add("nothing", "form", "five parts", "")
	add("a JWS", "form", "five parts", inner)
	add("six parts", "form", "five parts", good+".")
	add("JSON serialisation", "form", "five parts", fmt.Sprintf(`{"protected":%q,"iv":%q,"ciphertext":%q,"tag":%q}`, parts[0], parts[2], parts[3], parts[4]))
	add("longer than 15,360 bytes", "form", "too long", good+strings.Repeat("A", MaxGrant))
	add("header longer than 1 KiB", "form", "too long", jwe{plaintext: inner, extra: strings.Repeat(" ", 1025)}.seal(t, key))
	exact := len(unpad(t, parts[0]))
	add("header of exactly 1 KiB", "ok", "", jwe{plaintext: inner, extra: strings.Repeat(" ", 1024-exact)}.seal(t, key))
	last().Gid, last().Secret, last().Token = claims.Gid, claims.Secret, claims.Token
	add("header of 1,025 bytes", "form", "too long", jwe{plaintext: inner, extra: strings.Repeat(" ", 1025-exact)}.seal(t, key))
	for _, extra := range []string{
		`,"zip":"DEF"`, `,"apv":"Ym9i"`, `,"crit":["exp"]`, `,"typ":"JWT"`, `,"jwk":{"kty":"EC"}`, `,"x5u":"https://evil.example/"`, `,"kid":"x"`, `,"b64":false`,
	} {
		add("extra header member "+extra[1:], "form", "header", jwe{plaintext: inner, extra: extra}.seal(t, key))
	}
	add("apu, that goes into the key", "form", "header", jwe{plaintext: inner, extra: `,"apu":"YWxpY2U"`, apu: "alice"}.seal(t, key))
	right := string(unpad(t, parts[0]))
	for name, swap := range map[string][2]string{
		"alg ECDH-ES+A256KW": {`"ECDH-ES"`, `"ECDH-ES+A256KW"`}, "alg dir": {`"ECDH-ES"`, `"dir"`}, "enc A128GCM": {`"A256GCM"`, `"A128GCM"`},
		"enc A256CBC-HS512": {`"A256GCM"`, `"A256CBC-HS512"`}, "cty missing": {`"cty":"JWT",`, ``}, "cty jwt": {`"JWT"`, `"jwt"`}, "alg missing": {`"alg":"ECDH-ES",`, ``},
		"kid missing": {`"kid":"` + key.Kid() + `",`, ``}, "kid short": {key.Kid(), key.Kid()[:40]}, "kid with a spare bit": {key.Kid(), flipped(t, key.Kid())},
		"epk missing": {right[strings.Index(right, `,"epk"`):], `}`}, "epk on P-384": {`"P-256"`, `"P-384"`}, "epk with kid": {`"kty":"EC"`, `"kty":"EC","kid":"x"`},
		"epk private":       {`"kty":"EC"`, `"kty":"EC","d":"` + encodeBase64(seed("ephemeral")) + `"`},
		"epk off the curve": {fixedInstanceKey(t, "ephemeral").Public().Y, fixedInstanceKey(t, "ephemeral").Public().X},
		"header no JSON":    {`{"alg"`, `["alg"`}, "header case": {`"alg"`, `"Alg"`}, "header with tail": {right, right + "{}"},
	} {
		h := strings.Replace(right, swap[0], swap[1], 1)
		if h == right {
			t.Fatalf("%s changes nothing", name)
		}
		add(name, "form", "", jwe{plaintext: inner, header: h}.seal(t, key))
	}

	add("to another instance's key", "key", "", jwe{plaintext: inner}.seal(t, fixedInstanceKey(t, "other instance")))
	add("to another key under this kid", "open", "", jwe{plaintext: inner, kid: key.Kid()}.seal(t, fixedInstanceKey(t, "other instance")))
	add("changed tag", "open", "", replacePart(parts, 4, "AAAAAAAAAAAAAAAAAAAAAA"))
	add("changed ciphertext", "open", "", replacePart(parts, 3, "AAAA"+parts[3][4:]))
	add("changed header, same meaning", "open", "", replacePart(parts, 0, encodeBase64([]byte(strings.Replace(right, ",", ", ", 1)))))

	add("no JWS inside", "header", "three parts", sealed("hello"))
	add("claims without signature", "header", "", sealed(payload))
	add("alg none inside", "header", "", sealed(encodeBase64([]byte(`{"alg":"none","kid":"`+fixedIdentity("app ui").Kid()+`","typ":"`+typ+`"}`))+"."+encodeBase64(text)+"."))
	add("typ of an announcement", "header", "typ", sealed(rawJWS("app ui", jwsHeaderOf("app ui", AnnouncementTypeName+"+jwt"), payload)))
	add("typ JWT", "header", "typ", sealed(rawJWS("app ui", jwsHeaderOf("app ui", "JWT"), payload)))
	add("alg HS256 inside", "header", "alg", sealed(rawJWS("app ui", strings.Replace(header, "EdDSA", "HS256", 1), payload)))
	pub := fixedIdentity("attacker").Public()
	add("jwk header inside", "header", "header", sealed(rawJWS("attacker", strings.TrimSuffix(header, "}")+`,"jwk":{"kty":"OKP","crv":"Ed25519","x":"`+pub.X+`"}}`, payload)))
	add("extra header member inside", "header", "header", sealed(rawJWS("app ui", strings.TrimSuffix(header, "}")+`,"cty":"x"}`, payload)))
	add("line break after the JWS", "header", "canonical", sealed(inner+"\n"))
	if f, ok := flipSpareBit(inner); ok {
		add("spare bit in the JWS", "header", "canonical", sealed(f))
	}
	add("JWS in JSON serialisation", "header", "three parts", sealed(`{"payload":"`+strings.Split(inner, ".")[1]+`"}`))

	add("attacker's key", "signer", "", sealed(rawJWS("attacker", jwsHeaderOf("attacker", typ), payload)))
	add("key of another app", "signer", "", sealed(rawJWS("app other", jwsHeaderOf("app other", typ), payload)))
	add("key of the service", "signer", "", sealed(rawJWS("service middleware", jwsHeaderOf("service middleware", typ), payload)))
	add("on another app's subject", "signer", "", good)
	last().App = "other"
	add("on an unknown app's subject", "signer", "", good)
	last().App = "nobody"
	add("on a service's name as app", "signer", "", good)
	last().App = serviceName
	add("attacker's key under the app's kid", "signature", "", sealed(rawJWS("attacker", header, payload)))
	ip := strings.Split(inner, ".")
	add("changed claims", "signature", "", sealed(replacePart(ip, 1, encodeBase64([]byte(strings.Replace(payload, `"middleware"`, `"billing"`, 1))))))

	edited("iss of another app", "iss", func(c *GrantClaims) { c.App = "other" })
	edited("aud of another service", "aud", func(c *GrantClaims) { c.Service = "billing" })
	edited("rkid of another key", "rkid", func(c *GrantClaims) { c.Rkid = fixedInstanceKey(t, "other instance").Kid() })
	edited("life of 301 s", "5m1s", func(c *GrantClaims) { c.Expiry++ })
	edited("exp equals iat", "exp", func(c *GrantClaims) { c.Expiry = c.IssuedAt })
	edited("exp before iat", "exp", func(c *GrantClaims) { c.Expiry = c.IssuedAt - 60 })
	edited("times that overflow", "", func(c *GrantClaims) { c.IssuedAt, c.Expiry = 1<<63-101, 1<<63-1 })
	edited("negative iat", "iat", func(c *GrantClaims) { c.IssuedAt = -1 })
	edited("past the token's exp", "token's own exp", func(c *GrantClaims) { c.Token = jwtToken(fixedNow.Add(299 * time.Second)) })
	edited("secret of 31 bytes", "secret", func(c *GrantClaims) { c.Secret = encodeBase64(seed("secret")[:31]) })
	edited("secret of 33 bytes", "secret", func(c *GrantClaims) { c.Secret = encodeBase64(append(seed("secret"), 0)) })
	edited("secret with a spare bit", "secret", func(c *GrantClaims) { c.Secret = flipped(t, c.Secret) })
	edited("token of 8,001 bytes", "8001", func(c *GrantClaims) { c.Token = strings.Repeat("a", 8001) })
	edited("token with a line break", "visible", func(c *GrantClaims) { c.Token = "a\r\nX-Evil: 1" })
	edited("token with a space", "visible", func(c *GrantClaims) { c.Token = "Bearer a" })
	opaque.Expiry = now + 61
	add("opaque token for 61 s", "claims", "1m1s", grantOf(t, opaque))
	last().Opaque = true
	for member, value := range map[string]string{
		"iss": appName, "aud": serviceName, "rkid": key.Kid(), "gid": claims.Gid.String(), "secret": claims.Secret, "token": claims.Token,
	} {
		add(member+" missing", "claims", "", sealed(rawJWS("app ui", header, dropMember(t, payload, fmt.Sprintf(`"%s":"%s"`, member, value)))))
		add(member+" null", "claims", "", sealed(rawJWS("app ui", header, strings.Replace(payload, `"`+member+`":"`+value+`"`, `"`+member+`":null`, 1))))
	}
	add("iat missing", "claims", "missing", sealed(rawJWS("app ui", header, dropMember(t, payload, fmt.Sprintf(`"iat":%d`, claims.IssuedAt)))))
	add("exp missing", "claims", "missing", sealed(rawJWS("app ui", header, dropMember(t, payload, fmt.Sprintf(`"exp":%d`, claims.Expiry)))))
	for name, p := range map[string]string{
		"claim unknown": strings.TrimSuffix(payload, "}") + `,"nbf":1}`, "claim twice": strings.TrimSuffix(payload, "}") + `,"iss":"other"}`,
		"aud an array": strings.Replace(payload, `"middleware"`, `["middleware"]`, 1), "exp a fraction": strings.Replace(payload, fmt.Sprint(claims.Expiry), fmt.Sprint(claims.Expiry)+".5", 1),
		"claims no object": `"hello"`, "gid with a spare bit": strings.Replace(payload, claims.Gid.String(), claims.Gid.String()[:25]+"b", 1),
	} {
		add(name, "header", "claims", sealed(rawJWS("app ui", header, p)))
	}
	sortCases(v.Cases, func(c grantCase) string { return c.Name })
	return v
}

func unpad(t testing.TB, s string) []byte {
	t.Helper()
	b, err := decodeBase64(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func flipped(t testing.TB, s string) string {
	t.Helper()
	f, ok := flipSpareBit(s)
	if !ok {
		t.Fatal("no spare bit")
	}
	return f
}

func dropMember(t testing.TB, object, member string) string {
	t.Helper()
	for _, m := range []string{member + ",", "," + member} {
		if strings.Contains(object, m) {
			return strings.Replace(object, m, "", 1)
		}
	}
	t.Fatalf("no member %s", member)
	return ""
}

func TestOpenGrant(t *testing.T) {
	for _, c := range vectors(t, "grants.json", grantCases(t)).Cases {
		t.Run(c.Name, func(t *testing.T) {
			o := fixedOpener(t)
			o.Opaque = c.Opaque
			g, err := o.Open(c.Grant, c.App, time.Unix(c.Now, 0))
			if c.Want == "ok" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				want := newKeySource(unpad(t, c.Secret), c.Gid)
				if g.Gid != c.Gid || g.Token.Reveal() != c.Token || !sameKeys(g.keys, want) || g.App != appName || g.Service != serviceName ||
					g.Rkid != fixedInstanceKey(t, "instance").Kid() || g.SignedBy != fixedIdentity("app ui").Kid() {
					t.Error("opened to something else")
				}
				return
			}
			if err == nil || g != nil {
				t.Fatal("accepted")
			}
			step, known := grantSteps[c.Want]
			if !known || !strings.Contains(err.Error(), step) || !strings.Contains(err.Error(), c.Detail) {
				t.Errorf("%v, want step %s (%q) and %q", err, c.Want, step, c.Detail)
			}
			if _, formErr := checkGrantForm(c.Grant); (formErr != nil) != (c.Want == "form") {
				t.Errorf("checkGrantForm: %v, the step is %s", formErr, c.Want)
			}
			for _, secret := range []string{"secret\"", c.Token, "dapi0123456789abcdef"} {
				if secret != "" && strings.Contains(err.Error(), secret) {
					t.Errorf("%v shows what was sealed", err)
				}
			}
		})
	}
}

// SealGrant's product opens, and go-jose and the JWE by hand agree in both directions.
func TestSealGrantRoundTrip(t *testing.T) {
	a, o := verifiedAnnouncement(t), fixedOpener(t)
	o.Opaque = true
	for name, c := range map[string]struct {
		token string
		life  time.Duration
	}{
		"jwt": {jwtToken(fixedNow.Add(time.Hour)), MaxGrantLife}, "jwt that runs out": {jwtToken(fixedNow.Add(10 * time.Second)), 10 * time.Second},
		"opaque": {"dapi0123", MaxOpaqueLife}, "one byte": {"x", MaxOpaqueLife}, "awkward": {`<>&"\` + "`'", MaxOpaqueLife},
		"jwt of a fraction of a second": {encodeBase64([]byte(`{}`)) + "." + encodeBase64([]byte(`{"exp":1750000100.9}`)) + ".c2ln", 100 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			made, compact, err := SealGrant(fixedIdentity("app ui"), appName, a, mustToken(t, c.token), fixedNow)
			if err != nil {
				t.Fatal(err)
			}
			if got := made.Expiry.Sub(fixedNow); got != c.life {
				t.Errorf("lives %v, want %v", got, c.life)
			}
			opened, err := o.Open(compact, appName, fixedNow)
			if err != nil {
				t.Fatal(err)
			}
			if opened.Token.Reveal() != c.token || !sameKeys(opened.keys, made.keys) || opened.Gid != made.Gid || !opened.Expiry.Equal(made.Expiry) || opened.SignedBy != made.SignedBy {
				t.Error("opened to something else")
			}
			if strings.Contains(compact, c.token) && len(c.token) > 4 {
				t.Error("the token is in the clear")
			}
		})
	}
	g1, c1, _ := SealGrant(fixedIdentity("app ui"), appName, a, mustToken(t, "x"), fixedNow)
	g2, c2, _ := SealGrant(fixedIdentity("app ui"), appName, a, mustToken(t, "x"), fixedNow)
	if c1 == c2 || g1.Gid == g2.Gid || *g1.keys.prk() == *g2.keys.prk() {
		t.Error("two grants share their random parts")
	}
}

func TestSealGrantRefuses(t *testing.T) {
	a := verifiedAnnouncement(t)
	unverified := fixedAnnouncement()
	unverified.KeyExp = fixedNow.Unix() + 3600
	token := mustToken(t, jwtToken(fixedNow.Add(2*time.Hour)))
	for name, c := range map[string]struct {
		a     *Announcement
		token Token
		now   time.Time
		want  Code
	}{
		"key expired":    {a, token, fixedNow.Add(time.Hour), CodeNoWorker},
		"no token":       {a, Token{}, fixedNow, CodeTokenMissing},
		"token expired":  {a, mustToken(t, jwtToken(fixedNow)), fixedNow, CodeTokenExpired},
		"unverified":     {&unverified, token, fixedNow, CodeInternal},
		"grant too long": {a, mustToken(t, strings.Repeat(`"`, MaxToken)), fixedNow, CodeTokenMalformed},
	} {
		if g, compact, err := SealGrant(fixedIdentity("app ui"), appName, c.a, c.token, c.now); !errors.Is(err, c.want) || g != nil || compact != "" {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// A token of MaxToken fits into a grant where the names have a usual length; where both have 63 characters, one of
// 7,952 bytes is the longest.
func TestLongestTokenFits(t *testing.T) {
	for name, longest := range map[string]int{strings.Repeat("n", 36): MaxToken, strings.Repeat("n", 63): 7952} {
		a := *verifiedAnnouncement(t)
		a.Service = name
		if _, _, err := SealGrant(fixedIdentity("app ui"), name, &a, mustToken(t, strings.Repeat("t", longest)), fixedNow); err != nil {
			t.Errorf("names of %d characters, token of %d bytes: %v", len(name), longest, err)
		}
	}
}

// Everything a worker relies on when it uses a grant again.
func TestUsable(t *testing.T) {
	o := fixedOpener(t)
	g, err := o.Open(grantOf(t, fixedClaims(t)), appName, fixedNow)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Usable(g, appName, fixedNow); err != nil {
		t.Errorf("fresh: %v", err)
	}
	if err := o.Usable(g, appName, g.Expiry.Add(Leeway)); err != nil {
		t.Errorf("at exp + leeway: %v", err)
	}
	if o.Usable(g, appName, g.Expiry.Add(Leeway+time.Second)) == nil {
		t.Error("usable after exp + leeway")
	}
	if o.Usable(g, "other", fixedNow) == nil {
		t.Error("usable for another app")
	}
	shared := fixedTrustFile()
	shared.Apps["other"] = shared.Apps[appName]
	both := *o
	both.Trust, err = shared.Trust()
	if err != nil {
		t.Fatal(err)
	}
	if both.Usable(g, "other", fixedNow) == nil {
		t.Error("usable for another app with the same key")
	}

	without := fixedTrustFile()
	delete(without.Apps, appName)
	swapped := fixedTrustFile()
	swapped.Apps[appName], swapped.Apps["other"] = swapped.Apps["other"], swapped.Apps[appName]
	service := fixedTrustFile()
	service.Services[appName] = service.Apps[appName]
	delete(service.Apps, appName)
	for name, f := range map[string]TrustFile{"app removed": without, "keys swapped": swapped, "key moved to a service": service} {
		trust, err := f.Trust()
		if err != nil {
			t.Fatal(err)
		}
		changed := *o
		changed.Trust = trust
		if changed.Usable(g, appName, fixedNow) == nil {
			t.Errorf("usable after: %s", name)
		}
		if _, err := changed.Open(grantOf(t, fixedClaims(t)), appName, fixedNow); err == nil {
			t.Errorf("opens after: %s", name)
		}
	}

	gone := *o
	gone.Key = func(string) *InstanceKey { return nil }
	if gone.Usable(g, appName, fixedNow) == nil {
		t.Error("usable after its instance key is gone")
	}
}

// go-jose, left to itself, opens several spellings of one grant: that is why checkGrantForm exists. If a new version
// stops doing so this test says it.
func TestGoJoseIsLenient(t *testing.T) {
	key := fixedInstanceKey(t, "instance")
	good := grantOf(t, fixedClaims(t))
	parts := strings.Split(good, ".")
	for name, compact := range map[string]string{
		"line break":    good + "\n",
		"spare bit":     replacePart(parts, 4, flipped(t, parts[4])),
		"encrypted key": replacePart(parts, 1, "AAAA"),
	} {
		j, err := jose.ParseEncryptedCompact(compact, []jose.KeyAlgorithm{jose.ECDH_ES}, []jose.ContentEncryption{jose.A256GCM})
		if err != nil {
			t.Errorf("%s: go-jose has become strict: %v", name, err)
			continue
		}
		if _, err := j.Decrypt(key.private); err != nil {
			t.Errorf("%s: go-jose has become strict: %v", name, err)
		}
		if _, err := checkGrantForm(compact); err == nil {
			t.Errorf("%s: checkGrantForm accepts it", name)
		}
	}
}

func TestInstanceKeyOutlivesItsGrants(t *testing.T) {
	key := fixedInstanceKey(t, "instance")
	if got := key.DestroyAt().Sub(key.Expiry()); got != MaxGrantLife+Leeway {
		t.Errorf("destroyed %v after key_exp", got)
	}
}

func sameKeys(a, b *keySource) bool { return *a.prk() == *b.prk() && a.gid == b.gid }
