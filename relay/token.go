package relay

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// MaxToken is the longest token a grant carries, in bytes (PROTOCOL.md §6).
const MaxToken = 8000

// Token is a person's OAuth access token. It cannot be printed: every formatting, logging and marshalling path shows
// only the word "[token]". Reveal is the one way to its bytes, so that `grep Reveal` lists every use.
//
// The zero Token is empty. Tokens are comparable only by Equal-free means on purpose: hash them with a key instead.
type Token struct {
	// The secret is behind a function because fmt prints unexported fields of nested values past any method, and follows
	// even a pointer where the verb does not fit it, as in Printf("%s", struct{ t Token }{t}).
	secret func() *secret // nil: no token. It also makes Token not comparable
}

type secret struct {
	value  string
	expiry time.Time
	opaque bool
}

const hidden = "[token]"

// NewToken checks the form of an access token: 1 to MaxToken bytes of visible ASCII. If it is a JWT (three parts, a JSON
// payload with a numeric exp) its expiry is read; the signature is not checked, which only the workspace can do. The
// returned error never holds any part of the value.
func NewToken(value string) (Token, error) {
	switch {
	case value == "":
		return Token{}, NewError(CodeTokenMissing, "the request carries no access token")
	case len(value) > MaxToken:
		return Token{}, Errorf(CodeTokenMalformed, "the access token has %d bytes, the limit is %d", len(value), MaxToken)
	}
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c > '~' {
			return Token{}, NewError(CodeTokenMalformed, "the access token holds characters other than visible ASCII")
		}
	}
	expiry, ok := jwtExpiry(value)
	s := &secret{value: value, expiry: expiry, opaque: !ok}
	return Token{func() *secret { return s }}, nil
}

// jwtExpiry reads exp (RFC 7519 §4.1.4) from the payload of a compact JWS without verifying it.
func jwtExpiry(value string) (time.Time, bool) {
	parts := strings.Split(value, ".")
	if len(parts) != 3 || parts[0] == "" || parts[2] == "" {
		return time.Time{}, false
	}
	payload, err := decodeBase64(parts[1])
	if err != nil {
		return time.Time{}, false
	}
	var claims struct {
		Expiry *float64 `json:"exp"`
	}
	if err := unmarshalOpen(payload, &claims); err != nil || claims.Expiry == nil {
		return time.Time{}, false
	}
	if *claims.Expiry < 0 || *claims.Expiry > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(*claims.Expiry), 0), true
}

// Reveal returns the token itself. What is done with it must not log, print or store it.
func (t Token) Reveal() string {
	if t.secret == nil {
		return ""
	}
	return t.secret().value
}

// IsZero reports whether there is no token.
func (t Token) IsZero() bool { return t.secret == nil }

// Opaque reports whether the token is not a JWT with an expiry.
func (t Token) Opaque() bool { return t.secret != nil && t.secret().opaque }

// Expiry is the token's own exp; zero for opaque tokens.
func (t Token) Expiry() time.Time {
	if t.secret == nil {
		return time.Time{}
	}
	return t.secret().expiry
}

// ExpiredAt reports whether a JWT has run out at the given time. An opaque token never has, as far as anyone here knows.
func (t Token) ExpiredAt(now time.Time) bool {
	return t.secret != nil && !t.secret().opaque && !now.Before(t.secret().expiry)
}

// String hides the token.
func (Token) String() string { return hidden }

// GoString hides the token from %#v.
func (Token) GoString() string { return hidden }

// Format hides the token from every fmt verb.
func (Token) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, hidden) }

// LogValue hides the token from slog.
func (Token) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalJSON hides the token from encoding/json.
func (Token) MarshalJSON() ([]byte, error) { return []byte(`"` + hidden + `"`), nil }

// MarshalText hides the token from every encoder that uses text.
func (Token) MarshalText() ([]byte, error) { return []byte(hidden), nil }
