package relaytest_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// forged is a request made from PROTOCOL.md alone, without the publisher's code, so that every member can be wrong.
type forged struct {
	signer    ed25519.PrivateKey
	header    map[string]any // of the JWS
	claims    map[string]any
	recipient *ecdsa.PublicKey
	kid       string // in the JWE's header
	alg       jose.KeyAlgorithm
	zip       bool
	bare      func(jws string) string // what is sealed instead of the JWS
	unsealed  bool                    // the JWS itself stands where the JWE should
	app       string                  // of both subjects
	secret    []byte
	gid, id   relay.ID
}

func publicKey(t *testing.T, k relay.JWK) *ecdsa.PublicKey {
	t.Helper()
	x, err := base64.RawURLEncoding.DecodeString(k.X)
	relaytest.Must(t, err)
	y, err := base64.RawURLEncoding.DecodeString(k.Y)
	relaytest.Must(t, err)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
	relaytest.Must(t, err)
	return key
}

func privateKey(t *testing.T, id relay.Identity) ed25519.PrivateKey {
	t.Helper()
	seed, err := base64.RawURLEncoding.DecodeString(id.Private().D)
	relaytest.Must(t, err)
	return ed25519.NewKeyFromSeed(seed)
}

func (f *forged) jws(t *testing.T) string {
	t.Helper()
	header, err := json.Marshal(f.header)
	relaytest.Must(t, err)
	claims, err := json.Marshal(f.claims)
	relaytest.Must(t, err)
	input := base64url(header) + "." + base64url(claims)
	return input + "." + base64url(ed25519.Sign(f.signer, []byte(input)))
}

func (f *forged) grant(t *testing.T) string {
	t.Helper()
	inner := f.jws(t)
	if f.unsealed {
		return inner
	}
	if f.bare != nil {
		inner = f.bare(inner)
	}
	options := (&jose.EncrypterOptions{}).WithContentType("JWT")
	if f.zip {
		options.Compression = jose.DEFLATE
	}
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: f.alg, Key: f.recipient, KeyID: f.kid}, options)
	relaytest.Must(t, err)
	jwe, err := encrypter.Encrypt([]byte(inner))
	relaytest.Must(t, err)
	compact, err := jwe.CompactSerialize()
	relaytest.Must(t, err)
	return compact
}

// message is the request: the grant, and frame 0 under a key derived as PROTOCOL.md §7 says.
func (f *forged) message(t *testing.T, instance string) *nats.Msg {
	t.Helper()
	subject := "obo.v1.req." + relaytest.Service + "." + instance + "." + f.app
	reply := "obo.v1.rep." + f.app + "." + relay.NewID().String() + "." + f.id.String()
	head, err := json.Marshal(map[string]any{
		"method": "POST", "path": "/forged", "header": map[string][]string{}, "length": 0,
		"subject": subject, "reply": reply, "iat_ms": time.Now().UnixMilli(), "timeout_ms": 5000,
	})
	relaytest.Must(t, err)
	key, err := hkdf.Key(sha256.New, f.secret, nil, "obo/1 request"+string(f.gid[:])+string(f.id[:]), 32)
	relaytest.Must(t, err)
	block, err := aes.NewCipher(key)
	relaytest.Must(t, err)
	aead, err := cipher.NewGCM(block)
	relaytest.Must(t, err)
	plain := append(binary.BigEndian.AppendUint32(nil, uint32(len(head))), head...)
	frame := []byte{1, byte(relay.FrameWhole), 0, 0, 0, 0, 0, 0, 0, 0}
	frame = aead.Seal(frame, make([]byte, 12), plain, frame)
	grant := f.grant(t)
	data := append(binary.BigEndian.AppendUint16(nil, uint16(len(grant))), grant...)
	return &nats.Msg{Subject: subject, Reply: reply, Data: append(data, frame...)}
}

// forger makes requests that are right but for one change.
type forger struct {
	t    *testing.T
	said *relay.Announcement
	by   relay.Identity
}

func (g forger) forge(change func(*forged)) *forged {
	now := time.Now()
	f := &forged{
		signer: privateKey(g.t, g.by), recipient: publicKey(g.t, g.said.Key), kid: g.said.Kid, alg: jose.ECDH_ES, app: relaytest.App,
		secret: randomBytes(32), gid: relay.NewID(), id: relay.NewID(),
		header: map[string]any{"alg": "EdDSA", "kid": g.by.Kid(), "typ": "obo.v1.grant+jwt"},
	}
	f.claims = map[string]any{
		"iss": relaytest.App, "aud": relaytest.Service, "rkid": g.said.Kid, "gid": f.gid.String(), "iat": now.Unix(), "exp": now.Add(4 * time.Minute).Unix(),
		"secret": base64url(f.secret), "token": relaytest.Token("alice", now.Add(time.Hour)),
	}
	if change != nil {
		change(f)
	}
	return f
}

// Whoever runs the broker knows each worker's public key, and so can seal what it likes to it. Only a grant that is signed
// by the app that the subject names, for this service, this key and this time, and that says nothing else, is accepted.
func TestForgedRequests(t *testing.T) {
	n, log := start(t)
	batch, attacker := relay.NewIdentity(), relay.NewIdentity()
	trust, err := relay.TrustFile{
		Type:     relay.TrustTypeName,
		Apps:     map[string]relay.JWKS{relaytest.App: {Keys: []relay.JWK{n.AppID.Public()}}, "batch": {Keys: []relay.JWK{batch.Public()}}},
		Services: map[string]relay.JWKS{relaytest.Service: {Keys: []relay.JWK{n.ServiceID.Public()}}},
	}.Trust()
	relaytest.Must(t, err)
	n.Trust = trust
	s := stageOn(t, n, log)
	handler := &counter{handler: says("ran")}
	d := s.door()
	worker, stop := s.Worker(handler, func(c *worker.Config) { c.NATS.URL = d.URL })
	w := end{worker, d, stop}
	app := s.RawApp()
	g := forger{t, app.Worker(w.Instance()), n.AppID}
	ran := int64(0)
	genuine := func(name string, f *forged) {
		s.deliver(f.message(t, w.Instance()), w)
		ran++
		s.inspect.wait(w.Instance(), name+" has run", func(s stats) bool { return s.requests == int(ran) })
		handler.want(t, ran)
	}
	genuine("a right one", g.forge(nil))
	genuine("batch's right one", forger{t, g.said, batch}.forge(func(f *forged) { f.app, f.claims["iss"] = "batch", "batch" }))
	for name, change := range map[string]func(*forged){
		// Whose signature.
		"another signer":              func(f *forged) { f.signer, f.header["kid"] = privateKey(t, attacker), attacker.Kid() },
		"another signer, right kid":   func(f *forged) { f.signer = privateKey(t, attacker) },
		"the service's key":           func(f *forged) { f.signer, f.header["kid"] = privateKey(t, n.ServiceID), n.ServiceID.Kid() },
		"the other app's key":         func(f *forged) { f.signer, f.header["kid"] = privateKey(t, batch), batch.Kid() },
		"the other app's subject":     func(f *forged) { f.app = "batch" },
		"the other app's key, on its": func(f *forged) { f.signer, f.header["kid"], f.app = privateKey(t, batch), batch.Kid(), "batch" }, // iss says ui
		"its own key beside it": func(f *forged) {
			f.signer = privateKey(t, attacker)
			f.header["jwk"] = map[string]string{"kty": "OKP", "crv": "Ed25519", "x": attacker.Public().X}
		},
		"no signature": func(f *forged) {
			f.bare = func(string) string { c, _ := json.Marshal(f.claims); return string(c) }
		},
		"alg none": func(f *forged) {
			f.header["alg"] = "none"
			f.bare = func(jws string) string { return jws[:len(jws)-86] }
		},
		"alg HS256": func(f *forged) { f.header["alg"] = "HS256" },
		"no kid":    func(f *forged) { delete(f.header, "kid") },
		"crit":      func(f *forged) { f.header["crit"] = []string{"exp"} },
		// What for.
		"typ of an announcement": func(f *forged) { f.header["typ"] = "obo.v1.announcement+jwt" },
		"no typ":                 func(f *forged) { delete(f.header, "typ") },
		"iss":                    func(f *forged) { f.claims["iss"] = "batch" },
		"no iss":                 func(f *forged) { delete(f.claims, "iss") },
		"aud":                    func(f *forged) { f.claims["aud"] = "billing" },
		"aud among others":       func(f *forged) { f.claims["aud"] = []string{relaytest.Service, "billing"} },
		"no aud":                 func(f *forged) { delete(f.claims, "aud") },
		"rkid":                   func(f *forged) { f.claims["rkid"] = attacker.Kid() },
		"no rkid":                func(f *forged) { delete(f.claims, "rkid") },
		"no gid":                 func(f *forged) { delete(f.claims, "gid"); f.gid = relay.ID{} },
		// For how long.
		"expired":          func(f *forged) { f.claims["iat"], f.claims["exp"] = ago(10*time.Minute), ago(6*time.Minute) },
		"too long":         func(f *forged) { f.claims["exp"] = ago(-6 * time.Minute) },
		"from tomorrow":    func(f *forged) { f.claims["iat"], f.claims["exp"] = ago(-2*time.Minute), ago(-4*time.Minute) },
		"no exp":           func(f *forged) { delete(f.claims, "exp") },
		"no iat":           func(f *forged) { delete(f.claims, "iat") },
		"past the token's": func(f *forged) { f.claims["token"] = relaytest.Token("alice", time.Now().Add(time.Minute)) },
		// With what.
		"no token":     func(f *forged) { delete(f.claims, "token") },
		"opaque token": func(f *forged) { f.claims["token"], f.claims["exp"] = "dapi0123456789", ago(-time.Minute) },
		"short secret": func(f *forged) { f.secret = f.secret[:16]; f.claims["secret"] = base64url(f.secret) },
		"no secret":    func(f *forged) { f.secret = make([]byte, 32); delete(f.claims, "secret") },
		"another claim": func(f *forged) {
			f.claims = maps.Clone(f.claims)
			f.claims["sub"] = "alice"
		},
		// Sealed how.
		"not sealed":       func(f *forged) { f.unsealed = true },
		"alg with wrapped": func(f *forged) { f.alg = jose.ECDH_ES_A256KW },
		"compressed":       func(f *forged) { f.zip = true },
		"another key's id": func(f *forged) { f.kid = attacker.Kid() },
		"no key's id":      func(f *forged) { f.kid = "" },
	} {
		m := g.forge(change).message(t, w.Instance())
		s.refused(1, func() { s.deliver(m, w) }, w)
		if got := handler.n.Load(); got != ran {
			t.Errorf("%s: executed", name)
			ran = got
		}
	}
}

func ago(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
