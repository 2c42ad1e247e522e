package relaytest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josecipher "github.com/go-jose/go-jose/v4/cipher"
	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
)

// FloodApp is a second app that may call the service, and does harm on purpose. Noisy is a second service, of which the app
// hears announcements.
const (
	FloodApp = "flood"
	Noisy    = "noisy"
)

// Flood is the app that does harm: it has a NATS user and an identity key that everybody trusts.
type Flood struct {
	tb       testing.TB
	side     *relay.Side
	noisy    relay.Identity
	Conn     *nats.Conn
	Subjects relay.Subjects
	Inbox    relay.ID
}

// NewFlood makes the app flood of its side, the key of the service noisy, and a connection that may do anything, for moves
// that are a broker's or another service's, too.
func NewFlood(tb testing.TB, side *relay.Side, noisy relay.Identity, root *nats.Conn) *Flood {
	tb.Helper()
	subjects, err := relay.NewSubjects("")
	Must(tb, err)
	return &Flood{tb: tb, side: side, noisy: noisy, Conn: root, Subjects: subjects, Inbox: relay.NewID()}
}

// NewWithFlood is New with the app flood and the service noisy beside the others.
func NewWithFlood(tb testing.TB, log io.Writer) (*Net, *Flood) {
	tb.Helper()
	id, noisy, user := relay.NewIdentity(), relay.NewIdentity(), NewUser(tb)
	n := NewWith(tb, log, Options{Conf: func(c *natsconf.Config) {
		c.Apps[0].Calls = append(c.Apps[0].Calls, Noisy)
		c.Apps = append(c.Apps, natsconf.App{Name: FloodApp, NKeys: []string{user.Public}, Calls: []string{Service}})
		c.Services[0].Apps = append(c.Services[0].Apps, FloodApp)
		c.Services = append(c.Services, natsconf.Service{Name: Noisy, NKeys: []string{NewUser(tb).Public}, Apps: []string{App}})
	}})
	keys := func(id relay.Identity) relay.JWKS { return relay.JWKS{Keys: []relay.JWK{id.Public()}} }
	var err error
	n.Trust, err = relay.TrustFile{
		Type:     relay.TrustTypeName,
		Apps:     map[string]relay.JWKS{App: keys(n.AppID), FloodApp: keys(id)},
		Services: map[string]relay.JWKS{Service: keys(n.ServiceID), Noisy: keys(noisy)},
	}.Trust()
	Must(tb, err)
	side := &relay.Side{Identity: id, Trust: n.Trust, Connect: relay.ConnectConfig{URL: n.URL, NKeySeed: user.Seed}}
	return n, NewFlood(tb, side, noisy, n.Connect(n.Root))
}

// Publisher is a publisher of the app flood.
func (f *Flood) Publisher() *publisher.Transport {
	f.tb.Helper()
	t, err := publisher.New(publisher.Config{
		App: FloodApp, Identity: f.side.Identity, Trust: f.side.Trust, NATS: f.side.Connect, Log: slog.New(slog.DiscardHandler),
		DiscoverWait: 2 * time.Second, // a machine that runs many tests is slow
	})
	Must(f.tb, err)
	Start(f.tb, t.Run)
	return t
}

// Worker returns what a worker announces, without keeping anything of what else is said.
func (f *Flood) Worker() *relay.Announcement {
	f.tb.Helper()
	heard, err := f.Conn.SubscribeSync(f.Subjects.Announce(Service))
	Must(f.tb, err)
	defer func() { Must(f.tb, heard.Unsubscribe()) }()
	for {
		Must(f.tb, f.Conn.Publish(f.Subjects.Discover(Service), nil))
		m, err := heard.NextMsg(Patience)
		Must(f.tb, err)
		if said, err := f.side.Trust.VerifyAnnouncement(Service, m.Data, time.Now()); err == nil {
			return said
		}
	}
}

// Run sends what next makes, rate times a second, until ctx ends. It returns how many were sent.
func (f *Flood) Run(ctx context.Context, rate int, next func() *nats.Msg) (sent int) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for {
		for due := int(time.Since(start).Seconds() * float64(rate)); sent < due; sent++ {
			if f.Conn.PublishMsg(next()) != nil {
				return sent
			}
		}
		select {
		case <-ctx.Done():
			return sent
		case <-tick.C:
		}
	}
}

// request is a message on the flood's req subject.
func (f *Flood) request(to *relay.Announcement, data []byte) *nats.Msg {
	return &nats.Msg{Subject: f.Subjects.Request(Service, to.Instance, FloodApp), Reply: f.Subjects.Reply(FloodApp, f.Inbox, relay.NewID()), Data: data}
}

// Garbage makes requests of n random bytes.
func (f *Flood) Garbage(to *relay.Announcement, n int) func() *nats.Msg {
	data := make([]byte, n)
	_, _ = rand.Read(data)
	data[0], data[1] = 4, 0 // a grant of 1 KiB
	return func() *nats.Msg { return f.request(to, data) }
}

// Frames makes ctl frames of n bytes for requests that nobody has made.
func (f *Flood) Frames(to *relay.Announcement, n int) func() *nats.Msg {
	data := make([]byte, n)
	return func() *nats.Msg {
		return &nats.Msg{Subject: f.Subjects.Control(Service, to.Instance, FloodApp, relay.NewID()), Data: data}
	}
}

// Requests makes valid requests of one person, for a path.
func (f *Flood) Requests(to *relay.Announcement, path string) func() *nats.Msg {
	token, err := relay.NewToken(Token("mallory", time.Now().Add(time.Hour)))
	Must(f.tb, err)
	grant, compact, err := relay.SealGrant(f.side.Identity, FloodApp, to, token, time.Now())
	Must(f.tb, err)
	return func() *nats.Msg {
		id := relay.NewID()
		head := &relay.RequestHead{
			Method: "POST", Path: path, Header: map[string][]string{}, IssuedAt: time.Now().UnixMilli(), TimeoutMS: 30_000,
			Subject: f.Subjects.Request(Service, to.Instance, FloodApp), Reply: f.Subjects.Reply(FloodApp, f.Inbox, id),
		}
		m := &nats.Msg{Subject: head.Subject, Reply: head.Reply}
		s := relay.NewStream(context.Background(), relay.StreamConfig{
			Role: relay.RoleApp, ID: id, Grant: grant, Limit: relay.MaxFrame, Budget: relay.NewBudget(0), Now: time.Now,
			Publish: func(b []byte, _ relay.FrameType, _ int) error { m.Data = append([]byte(nil), b...); return nil },
		})
		defer s.Close()
		s.SetGrant([]byte(compact))
		encoded, err := relay.EncodeHead(head)
		if err == nil {
			err = s.SendHead(encoded, nil, true, 0)
		}
		if err != nil {
			panic(err)
		}
		return m
	}
}

// Grants makes requests each of which has a new grant, rightly signed and sealed, so that the worker has to open it. The
// flood pays little for that: it derives one key and seals the same grant again under another nonce. With forged they do
// not open, after the work of ECDH.
func (f *Flood) Grants(to *relay.Announcement, forged bool) func() *nats.Msg {
	b64 := base64.RawURLEncoding
	marshal := func(v any) []byte {
		b, err := json.Marshal(v)
		Must(f.tb, err)
		return b
	}
	bytes := func(s string) []byte {
		b, err := b64.DecodeString(s)
		Must(f.tb, err)
		return b
	}
	now := time.Now()
	private := f.side.Identity.Private()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: ed25519.NewKeyFromSeed(bytes(private.D)), KeyID: f.side.Identity.Kid()}},
		(&jose.SignerOptions{}).WithType(relay.GrantTypeName+"+jwt"))
	Must(f.tb, err)
	jws, err := signer.Sign(marshal(map[string]any{
		"iss": FloodApp, "aud": Service, "rkid": to.Kid, "gid": relay.NewID(), "iat": now.Unix(), "exp": now.Add(relay.MaxGrantLife).Unix(),
		"secret": b64.EncodeToString(make([]byte, 32)), "token": Token("mallory", now.Add(time.Hour)),
	}))
	Must(f.tb, err)
	inner, err := jws.CompactSerialize()
	Must(f.tb, err)
	recipient, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, bytes(to.Key.X)...), bytes(to.Key.Y)...))
	Must(f.tb, err)
	ephemeral, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Must(f.tb, err)
	point, err := ephemeral.PublicKey.Bytes()
	Must(f.tb, err)
	header := b64.EncodeToString(marshal(map[string]any{
		"alg": "ECDH-ES", "enc": "A256GCM", "cty": "JWT", "kid": to.Kid,
		"epk": map[string]string{"kty": "EC", "crv": "P-256", "x": b64.EncodeToString(point[1:33]), "y": b64.EncodeToString(point[33:])},
	}))
	block, err := aes.NewCipher(josecipher.DeriveECDHES("A256GCM", nil, nil, ephemeral, recipient, 32))
	Must(f.tb, err)
	aead, err := cipher.NewGCM(block)
	Must(f.tb, err)
	return func() *nats.Msg {
		nonce := make([]byte, aead.NonceSize())
		_, _ = rand.Read(nonce)
		sealed := aead.Seal(nil, nonce, []byte(inner), []byte(header))
		if forged {
			sealed[0] ^= 1
		}
		end := len(sealed) - aead.Overhead()
		compact := header + ".." + b64.EncodeToString(nonce) + "." + b64.EncodeToString(sealed[:end]) + "." + b64.EncodeToString(sealed[end:])
		data := append([]byte{byte(len(compact) >> 8), byte(len(compact))}, compact...)
		return f.request(to, append(data, make([]byte, 64)...))
	}
}

// Discover makes discover messages.
func (f *Flood) Discover() *nats.Msg { return &nats.Msg{Subject: f.Subjects.Discover(Service)} }

// Announcements makes announcements of the service noisy: well formed, by the right name, with a signature that only
// checking it shows to be wrong.
func (f *Flood) Announcements() func() *nats.Msg {
	key, err := relay.NewInstanceKey(time.Now().Add(time.Hour))
	Must(f.tb, err)
	jws, err := relay.Announcement{Service: Noisy, Instance: relay.NewInstance(), Seq: 1, State: relay.Ready, Capacity: 1, Version: "1", Server: "N"}.Sign(f.noisy, key, time.Now())
	Must(f.tb, err)
	data := []byte(jws)
	data[len(data)-10] ^= 1
	return func() *nats.Msg { return &nats.Msg{Subject: f.Subjects.Announce(Noisy), Data: data} }
}
