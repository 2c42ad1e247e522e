package sandbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Scopes that the sandbox knows by name.
const (
	ScopeAllAPIs           = "all-apis"
	ScopeCurrentUserRead   = "iam.current-user:read"
	ScopeAccessControlRead = "iam.access-control:read"
)

// TokenOptions say how a token differs from the default.
type TokenOptions struct {
	// Scopes of the token. Defaults to the scopes of App, or without App to
	// iam.current-user:read and iam.access-control:read.
	Scopes []string

	// Lifetime from now. A negative one makes a token that has expired already.
	// Defaults to Config.TokenLifetime.
	Lifetime time.Duration

	// App names the app that the token is issued to: its client_id claim.
	// Defaults to none, with the client id of the platform's command line tool.
	App string
}

// claims are those of a platform token; aud is a plain string there, and times
// are whole seconds (RFC 9068, RFC 7519).
type claims struct {
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	Subject  string `json:"sub"`
	IssuedAt int64  `json:"iat"`
	Expiry   int64  `json:"exp"`
	ID       string `json:"jti"`
}

func (c claims) expired(now time.Time) bool { return now.Unix() >= c.Expiry }

func (c claims) has(scope string) bool {
	held := strings.Fields(c.Scope)
	return slices.Contains(held, scope) || slices.Contains(held, ScopeAllAPIs)
}

var (
	errTokenInvalid = errors.New("token is not valid here")
	errTokenExpired = errors.New("token is expired")
)

// mint signs tokens, checks them, and remembers the revoked ones.
type mint struct {
	now    func() time.Time
	key    jose.JSONWebKey
	signer jose.Signer

	mu      sync.Mutex
	revoked map[string]claims // by jti; guarded by mu
}

func newMint(now func() time.Time) (*mint, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	kid := sha256.Sum256([]byte(rand.Text()))
	key := jose.JSONWebKey{Key: private, KeyID: hex.EncodeToString(kid[:]), Algorithm: string(jose.ES256), Use: "sig"}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: key},
		(&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return nil, err
	}
	return &mint{now: now, key: key, signer: signer, revoked: map[string]claims{}}, nil
}

// issue signs a token that lives from now. IssuedAt, Expiry and ID of c are set
// here; the expiry is returned.
func (m *mint) issue(c claims, lifetime time.Duration) (string, time.Time, error) {
	now := m.now()
	expiry := now.Add(lifetime)
	issued := now
	if lifetime <= 0 {
		issued = expiry.Add(-time.Hour)
	}
	c.IssuedAt, c.Expiry, c.ID = issued.Unix(), expiry.Unix(), newUUID()
	token, err := jwt.Signed(m.signer).Claims(c).Serialize()
	return token, time.Unix(c.Expiry, 0), err
}

// read checks signature and audience only.
func (m *mint) read(token, audience string) (claims, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return claims{}, errTokenInvalid
	}
	var c claims
	if err := parsed.Claims(m.key.Public(), &c); err != nil {
		return claims{}, errTokenInvalid
	}
	if c.Expiry == 0 || c.ID == "" || c.Audience != audience {
		return claims{}, errTokenInvalid
	}
	return c, nil
}

// check tells whether a token counts now.
func (m *mint) check(token, audience string) (claims, error) {
	c, err := m.read(token, audience)
	if err != nil {
		return claims{}, err
	}
	if c.expired(m.now()) {
		return claims{}, errTokenExpired
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, gone := m.revoked[c.ID]; gone {
		return claims{}, errTokenInvalid
	}
	return c, nil
}

func (m *mint) revoke(token, audience string) error {
	c, err := m.read(token, audience)
	if err != nil {
		return fmt.Errorf("sandbox: revoke: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, old := range m.revoked { // an expired token needs no revoking
		if old.expired(m.now()) {
			delete(m.revoked, id)
		}
	}
	m.revoked[c.ID] = c
	return nil
}

// jwks is the public key document.
func (m *mint) jwks() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{m.key.Public()}}
}
