package relay

import (
	"errors"
	"strings"
	"testing"
	"time"
)

type announcementVectors struct {
	Comment string             `json:"comment"`
	Cases   []announcementCase `json:"cases"`
}

type announcementCase struct {
	Name    string `json:"name"`
	Service string `json:"service"` // of the NATS subject
	Now     int64  `json:"now"`
	Payload string `json:"payload"`
	Want    string `json:"want"`             // ok, or a code
	Detail  string `json:"detail,omitempty"` // a part of the error's text
}

func announcementCases(t testing.TB) announcementVectors {
	key := fixedInstanceKey(t, "instance")
	typ := AnnouncementTypeName + "+jwt"
	base := fixedAnnouncement()
	base.IssuedAt, base.Expiry = fixedNow.Unix(), fixedNow.Unix()+20
	base.Key, base.Kid, base.KeyExp = key.Public(), key.Kid(), key.Expiry().Unix()
	header := jwsHeaderOf("service middleware", typ)
	sign := func(edit func(*Announcement)) string {
		a := base
		edit(&a)
		payload, err := marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		return rawJWS("service middleware", header, string(payload))
	}
	good := sign(func(*Announcement) {})
	payload, _ := marshal(base)
	signed := func(label, header string) string { return rawJWS(label, header, string(payload)) }
	parts := strings.Split(good, ".")
	now := fixedNow.Unix()
	v := announcementVectors{Comment: "PROTOCOL.md section 5. service is the one of the NATS subject, now the publisher's clock in Unix seconds."}
	add := func(name, want, detail, payload string) {
		v.Cases = append(v.Cases, announcementCase{name, serviceName, now, payload, want, detail})
	}
	at := func(name string, offset int64, want, detail string) {
		v.Cases = append(v.Cases, announcementCase{name, serviceName, now + offset, good, want, detail})
	}
	edited := func(name, detail string, edit func(*Announcement)) { add(name, "refused", detail, sign(edit)) }

	add("valid", "ok", "", good)
	add("draining", "ok", "", sign(func(a *Announcement) { a.State = Draining }))
	add("shorter life", "ok", "", sign(func(a *Announcement) { a.Expiry = a.IssuedAt + 1 }))
	at("clock 30 s behind", -30, "ok", "")
	at("clock 31 s behind", -31, "clock_skew", "31s ahead")
	at("clock an hour behind", -3600, "clock_skew", "1h0m0s ahead")
	at("30 s after exp", 50, "ok", "")
	at("31 s after exp", 51, "clock_skew", "51s ago")
	at("replayed a day later", 86400, "clock_skew", "24h0m0s ago")

	v.Cases = append(v.Cases,
		announcementCase{"on another service's subject", "billing", now, good, "worker_untrusted", fixedIdentity("service middleware").Kid()},
		announcementCase{"on an app's name", appName, now, good, "worker_untrusted", ""},
		announcementCase{"on an unknown service", "nobody", now, good, "worker_untrusted", ""})
	add("attacker's key under its own kid", "worker_untrusted", fixedIdentity("attacker").Kid(), signed("attacker", jwsHeaderOf("attacker", typ)))
	add("attacker's key under the service's kid", "refused", "signature", signed("attacker", header))
	add("key of another service", "worker_untrusted", "", signed("service billing", jwsHeaderOf("service billing", typ)))
	add("key of an app", "worker_untrusted", "", signed("app ui", jwsHeaderOf("app ui", typ)))

	add("typ of a grant", "refused", "header", signed("service middleware", jwsHeaderOf("service middleware", GrantTypeName+"+jwt")))
	add("typ without +jwt", "refused", "header", signed("service middleware", jwsHeaderOf("service middleware", AnnouncementTypeName)))
	add("alg none", "refused", "header", signed("service middleware", strings.Replace(header, "EdDSA", "none", 1)))
	add("alg Ed25519", "refused", "header", signed("service middleware", strings.Replace(header, "EdDSA", "Ed25519", 1)))
	add("alg HS256", "refused", "header", signed("service middleware", strings.Replace(header, "EdDSA", "HS256", 1)))
	add("no typ", "refused", "header", signed("service middleware", `{"alg":"EdDSA","kid":"`+fixedIdentity("service middleware").Kid()+`"}`))
	add("kid that is no thumbprint", "refused", "header", signed("service middleware", strings.Replace(header, fixedIdentity("service middleware").Kid(), "key-1", 1)))
	for _, extra := range []string{`"jwk":{"kty":"OKP"}`, `"crit":["exp"]`, `"b64":false`, `"cty":"JWT"`, `"jku":"https://evil.example/"`, `"kid":"x"`} {
		add("extra header member "+extra, "refused", "header", signed("service middleware", strings.TrimSuffix(header, "}")+","+extra+"}"))
	}
	add("header member in upper case", "refused", "header", signed("service middleware", strings.Replace(header, `"alg"`, `"Alg"`, 1)))

	add("nothing", "refused", "three parts", "")
	add("two parts", "refused", "three parts", parts[0]+"."+parts[1])
	add("four parts", "refused", "three parts", good+".")
	add("JSON serialisation", "refused", "three parts", `{"payload":"`+parts[1]+`","protected":"`+parts[0]+`","signature":"`+parts[2]+`"}`)
	add("empty signature", "refused", "canonical", parts[0]+"."+parts[1]+".")
	add("detached payload", "refused", "canonical", parts[0]+".."+parts[2])
	for i, name := range []string{"header", "payload", "signature"} {
		add("padding after "+name, "refused", "canonical", replacePart(parts, i, parts[i]+"="))
		add("line break in "+name, "refused", "canonical", replacePart(parts, i, parts[i][:4]+"\n"+parts[i][4:]))
		if flipped, ok := flipSpareBit(parts[i]); ok {
			add("spare bit in "+name, "refused", "canonical", replacePart(parts, i, flipped))
		}
		add("standard alphabet in "+name, "refused", "canonical", replacePart(parts, i, "+/"+parts[i][2:]))
	}
	add("line break at the end", "refused", "canonical", good+"\n")
	add("space in front", "refused", "canonical", " "+good)
	add("changed payload", "refused", "signature", replacePart(parts, 1, encodeBase64([]byte(strings.Replace(string(payload), `"capacity":64`, `"capacity":65`, 1)))))
	add("longer than 4 KiB", "refused", "4096", sign(func(a *Announcement) { a.Version = strings.Repeat("1", 4000) }))

	edited("iss of another service", "iss", func(a *Announcement) { a.Service = "billing" })
	edited("sub too short", "sub", func(a *Announcement) { a.Instance = instanceID[1:] })
	edited("sub with a dot", "sub", func(a *Announcement) { a.Instance = instanceID[1:] + "." })
	edited("seq 0", "seq", func(a *Announcement) { a.Seq = 0 })
	edited("life of 21 s", "exp", func(a *Announcement) { a.Expiry++ })
	edited("exp before iat", "exp", func(a *Announcement) { a.Expiry = a.IssuedAt - 1 })
	edited("exp equals iat", "exp", func(a *Announcement) { a.Expiry = a.IssuedAt })
	edited("life that overflows 64 bits", "exp", func(a *Announcement) { a.IssuedAt, a.Expiry = -1<<62, 1<<62 })
	edited("life of all 64 bits", "exp", func(a *Announcement) { a.IssuedAt, a.Expiry = -1<<63, 1<<63-1 })
	edited("iat 0", "exp", func(a *Announcement) { a.IssuedAt, a.Expiry = 0, 20 })
	edited("kid of another key", "thumbprint", func(a *Announcement) { a.Kid = fixedInstanceKey(t, "other instance").Kid() })
	edited("kid missing", "thumbprint", func(a *Announcement) { a.Kid = "" })
	edited("jwk missing", "jwk", func(a *Announcement) { a.Key = JWK{} })
	edited("jwk is Ed25519", "jwk", func(a *Announcement) { a.Key = JWK{Kty: "OKP", Crv: "Ed25519", X: a.Key.X}; a.Kid = a.Key.Thumbprint() })
	edited("jwk with another kty", "jwk", func(a *Announcement) { a.Key.Kty = "OKP"; a.Kid = a.Key.Thumbprint() })
	edited("jwk with the bytes of its point shared otherwise", "jwk", func(a *Announcement) {
		point := append(unpad(t, a.Key.X), unpad(t, a.Key.Y)...)
		a.Key.X, a.Key.Y = encodeBase64(point[:31]), encodeBase64(point[31:])
		a.Kid = a.Key.Thumbprint()
	})
	edited("jwk is P-384", "jwk", func(a *Announcement) { a.Key.Crv = "P-384"; a.Kid = a.Key.Thumbprint() })
	edited("jwk is private", "jwk", func(a *Announcement) { a.Key.D = encodeBase64(seed("instance")) })
	edited("point not on the curve", "P-256", func(a *Announcement) { a.Key.Y = a.Key.X; a.Kid = a.Key.Thumbprint() })
	edited("point at infinity", "P-256", func(a *Announcement) {
		a.Key.X, a.Key.Y = encodeBase64(make([]byte, 32)), encodeBase64(make([]byte, 32))
		a.Kid = a.Key.Thumbprint()
	})
	edited("coordinate over the field", "P-256", func(a *Announcement) {
		a.Key.X = encodeBase64([]byte(strings.Repeat("\xff", 32)))
		a.Kid = a.Key.Thumbprint()
	})
	edited("coordinate with a leading zero byte", "jwk", func(a *Announcement) {
		a.Key.X = encodeBase64(append([]byte{0}, seed("x")...))
		a.Kid = a.Key.Thumbprint()
	})
	edited("state busy", "state", func(a *Announcement) { a.State = "busy" })
	edited("state missing", "state", func(a *Announcement) { a.State = "" })
	edited("capacity 0", "number", func(a *Announcement) { a.Capacity = 0 })
	edited("in_flight negative", "number", func(a *Announcement) { a.InFlight = -1 })
	edited("max_body negative", "number", func(a *Announcement) { a.MaxBody = -1 })
	edited("key_exp missing", "number", func(a *Announcement) { a.KeyExp = 0 })
	edited("version of 65 bytes", "too long", func(a *Announcement) { a.Version = strings.Repeat("1", 65) })
	edited("server of 65 bytes", "too long", func(a *Announcement) { a.Server = strings.Repeat("N", 65) })
	text := string(payload)
	for name, p := range map[string]string{
		"claim unknown":    strings.TrimSuffix(text, "}") + `,"nbf":1}`,
		"claim twice":      strings.TrimSuffix(text, "}") + `,"seq":2}`,
		"claim upper case": strings.Replace(text, `"seq"`, `"SEQ"`, 1),
		"claims an array":  "[" + text + "]",
		"claims with tail": text + "0",
	} {
		add(name, "refused", "claims", rawJWS("service middleware", header, p))
	}
	sortCases(v.Cases, func(c announcementCase) string { return c.Name })
	return v
}

func TestVerifyAnnouncement(t *testing.T) {
	trust := fixedTrust(t)
	for _, c := range vectors(t, "announcements.json", announcementCases(t)).Cases {
		t.Run(c.Name, func(t *testing.T) {
			a, err := trust.VerifyAnnouncement(c.Service, []byte(c.Payload), time.Unix(c.Now, 0))
			checkWant(t, err, c.Want, c.Detail)
			if err == nil && (a.Service != c.Service || a.Instance != instanceID || a.Kid != fixedInstanceKey(t, "instance").Kid() || a.recipient == nil) {
				t.Errorf("read as %+v", a)
			}
			if err != nil && a != nil {
				t.Error("a refused announcement is returned")
			}
		})
	}
}

// checkWant compares an error with ok or a code, and its text with a part of it.
func checkWant(t *testing.T, err error, want, detail string) {
	t.Helper()
	if want == "ok" {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	switch {
	case err == nil:
		t.Errorf("accepted, want %s", want)
	case !errors.Is(err, Code(want)):
		t.Errorf("%v, want code %s", err, want)
	case !strings.Contains(err.Error(), detail):
		t.Errorf("%v, want %q in it", err, detail)
	}
}

func TestAnnouncementSignRoundTrip(t *testing.T) {
	key, err := NewInstanceKey(fixedNow.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	in := fixedAnnouncement()
	compact, err := in.Sign(fixedIdentity("service middleware"), key, fixedNow)
	if err != nil {
		t.Fatal(err)
	}
	out, err := fixedTrust(t).VerifyAnnouncement(serviceName, []byte(compact), fixedNow)
	if err != nil {
		t.Fatal(err)
	}
	if out.Kid != key.Kid() || out.IssuedAt != fixedNow.Unix() || out.Expiry-out.IssuedAt != 20 || out.KeyExp != fixedNow.Unix()+3600 {
		t.Errorf("got %+v", out)
	}
	if !out.recipient.Equal(&key.private.PublicKey) {
		t.Error("the verified key is not the announced one")
	}
	if in.Kid != "" || in.IssuedAt != 0 {
		t.Error("Sign changed its receiver")
	}
}

// The errors of announcements are logged: they may name checked things only.
func TestAnnouncementErrorsQuoteNothing(t *testing.T) {
	const canary = "CANARY-CANARY"
	trust := fixedTrust(t)
	header := jwsHeaderOf("service middleware", AnnouncementTypeName+"+jwt")
	for _, payload := range []string{
		canary, canary + "." + canary + "." + canary, encodeBase64([]byte(`{"alg":"`+canary+`"}`)) + ".e30.e30",
		rawJWS("service middleware", header, `{"iss":"`+canary+`"}`), rawJWS("service middleware", header, canary),
		rawJWS("service middleware", header, `{"seq":"`+canary+`"}`),
	} {
		_, err := trust.VerifyAnnouncement(serviceName, []byte(payload), fixedNow)
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%q: %v", payload, err)
		}
	}
}
