package relay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// InstanceKey is the P-256 key of one worker process. It exists in that process's memory only, and cannot be printed.
type InstanceKey struct {
	_       [0]func()
	private *ecdsa.PrivateKey
	public  JWK
	kid     string
	expiry  time.Time
}

// NewInstanceKey makes a key that may be announced until expiry.
func NewInstanceKey(expiry time.Time) (*InstanceKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return instanceKeyOf(private, expiry)
}

func instanceKeyOf(private *ecdsa.PrivateKey, expiry time.Time) (*InstanceKey, error) {
	point, err := private.PublicKey.Bytes() // 4 | x | y (SEC 1 §2.3.3)
	if err != nil {
		return nil, err
	}
	public := JWK{Kty: "EC", Crv: "P-256", X: encodeBase64(point[1:33]), Y: encodeBase64(point[33:])}
	return &InstanceKey{private: private, public: public, kid: public.Thumbprint(), expiry: expiry}, nil
}

// Public is the key as it stands in announcements.
func (k *InstanceKey) Public() JWK { return k.public }

// Kid is the RFC 7638 thumbprint.
func (k *InstanceKey) Kid() string { return k.kid }

// Expiry is the time after which no grant may be made to this key.
func (k *InstanceKey) Expiry() time.Time { return k.expiry }

// DestroyAt is the time from which the last grant made to this key has run out.
func (k *InstanceKey) DestroyAt() time.Time { return k.expiry.Add(MaxGrantLife + Leeway) }

// Format hides the key from every fmt verb.
func (k *InstanceKey) Format(s fmt.State, _ rune) { _, _ = fmt.Fprint(s, "[instance key "+k.kid+"]") }

// p256 returns the public P-256 key, checked to be on the curve.
func (k JWK) p256() (*ecdsa.PublicKey, error) {
	if k.Kty != "EC" || k.Crv != "P-256" || k.D != "" || k.Kid != "" || k.Use != "" || k.Alg != "" {
		return nil, errors.New("jwk: want exactly kty EC, crv P-256, x, y")
	}
	x, errX := decodeBase64(k.X)
	y, errY := decodeBase64(k.Y)
	if errX != nil || errY != nil || len(x) != 32 || len(y) != 32 {
		return nil, errors.New("jwk: x or y is not 32 bytes of base64url")
	}
	point := append(append([]byte{4}, x...), y...)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, errors.New("jwk: not a point on P-256")
	}
	return public, nil
}
