package relay

import (
	"crypto/ed25519"
	"errors"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// jwsHeader is the exact protected header of every JWS of ours.
type jwsHeader struct {
	Alg string `json:"alg"`
	Kid string `json:"kid"`
	Typ string `json:"typ"`
}

// sign makes a compact JWS with exactly the header of jwsHeader.
func (id Identity) sign(typ string, claims any) (string, error) {
	payload, err := marshal(claims)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: id.key().private, KeyID: id.Kid()}},
		(&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
	if err != nil {
		return "", err
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// errUntrusted: the object is well formed, and signed by a key that is not bound to the name.
var errUntrusted = errors.New("signed by a key that the trust file does not bind to that name")

// checkJWSForm refuses every spelling of a compact JWS but the one that sign makes, and returns the kid that it names.
func checkJWSForm(compact, typ string) (kid string, err error) {
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		return "", errors.New("JWS: not three parts")
	}
	for _, p := range parts {
		if _, err := decodeBase64(p); err != nil || p == "" {
			return "", errors.New("JWS: a part is not canonical base64url")
		}
	}
	head, _ := decodeBase64(parts[0])
	var h jwsHeader
	if err := unmarshalStrict(head, &h); err != nil {
		return "", errors.New("JWS header: " + err.Error())
	}
	if h.Alg != string(jose.EdDSA) || h.Typ != typ || !validKid(h.Kid) {
		return "", errors.New("JWS header: alg, typ or kid is not what it must be")
	}
	return h.Kid, nil
}

// verify checks a compact JWS and decodes its claims: strict form, exactly our header, a key that the trust document
// binds to role and name. It returns the kid that the header names even when that key is not trusted, for diagnosis.
func (t *Trust) verify(compact, typ string, role Role, name string, claims any) (kid string, err error) {
	kid, err = checkJWSForm(compact, typ)
	if err != nil {
		return "", err
	}
	public, ok := t.key(role, name, kid)
	if !ok {
		return kid, errUntrusted
	}
	payload, err := verifyJWS(compact, public)
	if err != nil {
		return kid, err
	}
	if err := unmarshalStrict(payload, claims); err != nil {
		return kid, errors.New("JWS claims: " + err.Error())
	}
	return kid, nil
}

// verifyJWS returns the payload of a compact JWS, whose form was checked, if the signature is right.
func verifyJWS(compact string, public ed25519.PublicKey) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return nil, errors.New("JWS: cannot be parsed")
	}
	payload, err := jws.Verify(public)
	if err != nil {
		return nil, errors.New("JWS: the signature is wrong")
	}
	return payload, nil
}

// validKid reports whether s has the form of an RFC 7638 SHA-256 thumbprint.
func validKid(s string) bool {
	b, err := decodeBase64(s)
	return err == nil && len(b) == 32
}
