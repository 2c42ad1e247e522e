package relay

import (
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// GrantTypeName is the type constant of GrantClaims.
const GrantTypeName = "obo.v1.grant"

const (
	// MaxGrant is the longest sealed grant in bytes (PROTOCOL.md §6).
	MaxGrant     = 15 << 10
	maxJWEHeader = 1 << 10
)

// GrantClaims is what is sealed to one worker process: the person's token, and a secret from which the keys of all
// requests under this grant are derived (PROTOCOL.md §6). It holds secrets: do not print it.
type GrantClaims struct {
	App      string `json:"iss"`
	Service  string `json:"aud"`
	Rkid     string `json:"rkid"`
	Gid      ID     `json:"gid"`
	IssuedAt int64  `json:"iat"` // Unix seconds
	Expiry   int64  `json:"exp"`
	Secret   string `json:"secret"`
	Token    string `json:"token"`
}

// Format hides the claims from every fmt verb.
func (c GrantClaims) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, "[grant "+c.Gid.String()+"]") }

// LogValue hides the claims from slog.
func (c GrantClaims) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// Grant is a grant that has been made or opened. It cannot be printed.
type Grant struct {
	_        [0]func()
	App      string
	Service  string
	Gid      ID
	Expiry   time.Time
	Token    Token
	Rkid     string // thumbprint of the instance key
	SignedBy string // thumbprint of the app's identity key
	keys     *keySource
}

// Format hides the grant from every fmt verb.
func (g *Grant) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, "[grant "+g.Gid.String()+"]") }

// SealGrant makes a grant for one token and one announced instance key, and returns it with its compact JWE. It lives for
// MaxGrantLife, MaxOpaqueLife for opaque tokens, and never past the token's own expiry.
func SealGrant(app Identity, appName string, a *Announcement, token Token, now time.Time) (*Grant, string, error) {
	switch {
	case a.recipient == nil:
		return nil, "", NewError(CodeInternal, "a grant for an announcement that was not verified")
	case token.IsZero():
		return nil, "", NewError(CodeTokenMissing, "the request carries no access token")
	case token.ExpiredAt(now):
		return nil, "", NewError(CodeTokenExpired, "the access token has expired")
	}
	if now.Unix() >= a.KeyExp {
		return nil, "", Errorf(CodeNoWorker, "the key that worker %s announced has expired", a.Instance)
	}
	life := MaxGrantLife
	if token.Opaque() {
		life = MaxOpaqueLife
	}
	expiry := now.Add(life)
	if e := token.Expiry(); !token.Opaque() && e.Before(expiry) {
		expiry = e
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:])
	c := GrantClaims{
		App: appName, Service: a.Service, Rkid: a.Kid, Gid: NewID(), IssuedAt: now.Unix(), Expiry: expiry.Unix(),
		Secret: encodeBase64(secret[:]), Token: token.Reveal(),
	}
	inner, err := app.sign(GrantTypeName+"+jwt", c)
	if err != nil {
		return nil, "", err
	}
	encrypter, err := jose.NewEncrypter(jose.A256GCM,
		jose.Recipient{Algorithm: jose.ECDH_ES, Key: a.recipient, KeyID: a.Kid},
		(&jose.EncrypterOptions{}).WithContentType("JWT"))
	if err != nil {
		return nil, "", err
	}
	jwe, err := encrypter.Encrypt([]byte(inner))
	if err != nil {
		return nil, "", err
	}
	compact, err := jwe.CompactSerialize()
	if err != nil {
		return nil, "", err
	}
	if len(compact) > MaxGrant {
		return nil, "", Errorf(CodeTokenMalformed, "the grant has %d bytes, the limit is %d", len(compact), MaxGrant)
	}
	return c.grant(token, app.Kid(), secret[:]), compact, nil
}

func (c *GrantClaims) grant(token Token, signedBy string, secret []byte) *Grant {
	return &Grant{
		App: c.App, Service: c.Service, Gid: c.Gid, Expiry: time.Unix(c.Expiry, 0), Token: token, Rkid: c.Rkid,
		SignedBy: signedBy, keys: newKeySource(secret, c.Gid),
	}
}

// jweHeader is the exact protected header of a grant.
type jweHeader struct {
	Alg string `json:"alg"`
	Enc string `json:"enc"`
	Cty string `json:"cty"`
	Kid string `json:"kid"`
	Epk JWK    `json:"epk"`
}

// checkGrantForm refuses every spelling of a compact JWE but the one that SealGrant makes, since go-jose opens several
// spellings of one object. It returns the thumbprint of the key that the grant is for.
func checkGrantForm(compact string) (rkid string, err error) {
	if len(compact) > MaxGrant {
		return "", errors.New("grant: too long")
	}
	parts := strings.Split(compact, ".")
	if len(parts) != 5 {
		return "", errors.New("grant: not five parts")
	}
	if parts[1] != "" {
		return "", errors.New("grant: the encrypted key is not empty")
	}
	sizes := [5]int{0, 0, 12, 0, 16} // RFC 7518 §5.3: 96-bit IV, 128-bit tag
	for i, p := range parts {
		if i == 1 {
			continue
		}
		raw, err := decodeBase64(p)
		if err != nil || len(raw) == 0 || sizes[i] != 0 && len(raw) != sizes[i] {
			return "", fmt.Errorf("grant: part %d is not canonical base64url of the right size", i+1)
		}
	}
	header, _ := decodeBase64(parts[0])
	if len(header) > maxJWEHeader {
		return "", errors.New("grant: the header is too long")
	}
	var h jweHeader
	if err := unmarshalStrict(header, &h); err != nil {
		return "", fmt.Errorf("grant header: %w", err)
	}
	if h.Alg != string(jose.ECDH_ES) || h.Enc != string(jose.A256GCM) || h.Cty != "JWT" || !validKid(h.Kid) {
		return "", errors.New("grant header: alg, enc, cty or kid is not what it must be")
	}
	if _, err := h.Epk.p256(); err != nil {
		return "", fmt.Errorf("grant header: epk: %w", err)
	}
	return h.Kid, nil
}

// Opener opens grants at one worker: the keys that are alive, the trust that is in force.
type Opener struct {
	Service string
	Trust   *Trust
	Key     func(kid string) *InstanceKey // nil if there is no such live key
	Opaque  bool                          // whether opaque tokens are accepted
}

// Open makes the checks 2 to 4 of PROTOCOL.md §8 on a grant that came from the named app (the one in the NATS subject).
// Its errors are for the worker's own log: they name keys and claims, never values that a sender could fill with secrets.
func (o *Opener) Open(compact, app string, now time.Time) (*Grant, error) {
	rkid, err := checkGrantForm(compact)
	if err != nil {
		return nil, err
	}
	key := o.Key(rkid)
	if key == nil {
		return nil, fmt.Errorf("grant: sealed to key %s, which this process does not hold (it may have been made for another instance, or before a restart)", rkid)
	}
	inner, err := openJWE(compact, key.private)
	if err != nil {
		return nil, err
	}
	var c GrantClaims
	kid, err := o.Trust.verify(string(inner), GrantTypeName+"+jwt", RoleApp, app, &c)
	if errors.Is(err, errUntrusted) {
		return nil, fmt.Errorf("grant: app %s signs with key %s, which the trust file does not bind to it (trusted: %v): add it to this worker's trust file if it is right", app, kid, o.Trust.Kids(RoleApp, app))
	}
	if err != nil {
		return nil, fmt.Errorf("grant: %w", err)
	}
	secret, token, err := c.check(app, o.Service, rkid, now)
	if err != nil {
		return nil, fmt.Errorf("grant of app %s: %w", app, err)
	}
	if token.Opaque() && !o.Opaque {
		return nil, fmt.Errorf("grant of app %s: the token is opaque, and --opaque-tokens is not set", app)
	}
	return c.grant(token, kid, secret), nil
}

// openJWE returns the plaintext of a compact JWE whose form was checked.
func openJWE(compact string, private *ecdsa.PrivateKey) ([]byte, error) {
	jwe, err := jose.ParseEncryptedCompact(compact, []jose.KeyAlgorithm{jose.ECDH_ES}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil, errors.New("grant: cannot be parsed")
	}
	inner, err := jwe.Decrypt(private)
	if err != nil {
		return nil, errors.New("grant: cannot be opened with the key it names")
	}
	return inner, nil
}

func (c *GrantClaims) check(app, service, rkid string, now time.Time) (secret []byte, token Token, err error) {
	secret, err = decodeBase64(c.Secret)
	if err != nil || len(secret) != 32 {
		return nil, Token{}, errors.New("secret is not 32 bytes of base64url")
	}
	token, err = NewToken(c.Token)
	if err != nil {
		return nil, Token{}, err
	}
	most := MaxGrantLife
	if token.Opaque() {
		most = MaxOpaqueLife
	}
	issued, expires := time.Unix(c.IssuedAt, 0), time.Unix(c.Expiry, 0)
	switch {
	case c.App != app:
		return nil, Token{}, errors.New("iss is not the app of the subject")
	case c.Service != service:
		return nil, Token{}, errors.New("aud is not this service")
	case c.Rkid != rkid:
		return nil, Token{}, errors.New("rkid is not the key it was sealed to")
	case c.Gid == ID{}:
		return nil, Token{}, errors.New("gid is missing")
	case c.IssuedAt <= 0 || c.Expiry <= 0:
		return nil, Token{}, errors.New("iat or exp is missing")
	case expires.Sub(issued) > most || !expires.After(issued):
		return nil, Token{}, fmt.Errorf("exp is %v after iat, at most %v are allowed", expires.Sub(issued), most)
	case !token.Opaque() && expires.After(token.Expiry()):
		return nil, Token{}, errors.New("exp is past the token's own exp")
	case issued.Sub(now) > Leeway:
		return nil, Token{}, fmt.Errorf("iat is %v in the future: the clocks differ", issued.Sub(now).Round(time.Second))
	case now.Sub(expires) > Leeway:
		return nil, Token{}, fmt.Errorf("expired %v ago", now.Sub(expires).Round(time.Second))
	}
	return secret, token, nil
}

// Usable makes the checks that every use of a kept grant repeats (PROTOCOL.md §6).
func (o *Opener) Usable(g *Grant, app string, now time.Time) error {
	switch {
	case g.App != app:
		return errors.New("grant: of another app")
	case now.Sub(g.Expiry) > Leeway:
		return errors.New("grant: expired")
	case !o.Trust.Trusts(RoleApp, app, g.SignedBy):
		return errors.New("grant: its signer is no longer trusted")
	case o.Key(g.Rkid) == nil:
		return errors.New("grant: its instance key is gone")
	}
	return nil
}

// OpenRequest opens frame 0 of a request under this grant: its head, and the body bytes that came with it. The frame is
// opened in place.
func (g *Grant) OpenRequest(id ID, frame []byte) (HeadFrame, error) {
	key := g.keys.request(id)
	f, err := openFrame(key, frame)
	if err != nil {
		return HeadFrame{}, err
	}
	if f.Seq != 0 || f.Type != FrameHead && f.Type != FrameWhole {
		return HeadFrame{}, errors.New("frame: a request does not begin with a head")
	}
	head, body, err := splitHead(f.Body)
	if err != nil {
		return HeadFrame{}, err
	}
	return HeadFrame{Type: f.Type, JSON: head, Body: body, key: key}, nil
}
