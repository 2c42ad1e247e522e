package demo

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"

	"github.com/obo-relay/obo-relay/relay"
)

// joseHeader is the public part of a JWE (RFC 7516 §4) that says how, and to which key, it is sealed.
type joseHeader struct{ Alg, Enc, Kid string }

// grantHeader reads the header of the grant that a request begins with (PROTOCOL.md §6 and §7). Anybody who listens can.
func grantHeader(payload []byte) (h joseHeader, err error) {
	if len(payload) < 2 || len(payload) < 2+int(binary.BigEndian.Uint16(payload)) {
		return h, errors.New("the message is no request")
	}
	grant := string(payload[2 : 2+binary.BigEndian.Uint16(payload)])
	encoded, _, _ := strings.Cut(grant, ".")
	return h, decodePart(encoded, &h)
}

// announcedKey is the key that a worker announces (PROTOCOL.md §5).
func announcedKey(m Message) (string, error) {
	parts := strings.Split(string(m.Data), ".")
	if len(parts) != 3 || !strings.Contains(m.Subject, ".announce.") {
		return "", errors.New("the message is no announcement")
	}
	var claims struct{ Kid string }
	err := decodePart(parts[1], &claims)
	return claims.Kid, err
}

func decodePart(encoded string, v any) error {
	text, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// ofRequest says whether a message opens a request or closes its reply; the id is a hint.
func (m Message) ofRequest(id string) (opens, closes bool) {
	if m.Header.Get(relay.HintID) != id {
		return false, false
	}
	return m.Header.Get(relay.HintMethod) != "", m.Header.Get(relay.HintStatus) != ""
}
