package publisher

import (
	"net/http"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// tokenOf takes the person's access token from a request: X-Forwarded-Access-Token, or Authorization: Bearer (RFC 6750
// §2.1). Two different tokens are refused, since one of them would be ignored without anybody noticing.
func tokenOf(h http.Header) (string, error) {
	values := h.Values(relay.HeaderAccessToken)
	for _, v := range h.Values("Authorization") {
		if scheme, credentials, ok := strings.Cut(v, " "); ok && strings.EqualFold(scheme, "bearer") {
			values = append(values[:len(values):len(values)], strings.TrimLeft(credentials, " "))
		}
	}
	if len(values) == 0 {
		return "", relay.NewError(relay.CodeTokenMissing, "the request has neither X-Forwarded-Access-Token nor Authorization: Bearer")
	}
	for _, v := range values[1:] {
		if v != values[0] {
			return "", relay.NewError(relay.CodeTokenAmbiguous, "the request carries two different access tokens")
		}
	}
	return values[0], nil
}

// checkToken refuses what no worker would take.
func checkToken(token relay.Token, opaque bool, now time.Time) error {
	switch {
	case token.Opaque() && !opaque:
		return relay.NewError(relay.CodeTokenOpaque, "the access token is not a JWT with an expiry")
	case token.ExpiredAt(now):
		return relay.Errorf(relay.CodeTokenExpired, "the access token expired %v ago", now.Sub(token.Expiry()).Round(time.Second))
	}
	return nil
}
