package worker

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/obo-relay/obo-relay/relay"
)

// IdentityHeaders says which headers tell the middleware app who the person is: header name to source. The sources are
//
//	email         the primary e-mail address; if there is none, the user name if it has the form of an address
//	id            the workspace's user id
//	id@SUFFIX     the user id, "@", and SUFFIX as it stands here, e.g. id@1234567890123456
//	user_name     the user name
//	display_name  the display name. Chosen by people: for greeting them, not for deciding anything
//
// Values come from the workspace's answer for the person's token, never from the message, and replace whatever the
// message had under that name, in any letter case and with "_" for "-".
//
// A header is left out when the person has no such value, or one that does not fit: over 1 KiB, not visible ASCII, with
// a space at either end, or, for email, not of the form of one address. Encoding such a value could make it equal to
// another person's. display_name alone is encoded instead: UTF-8, then percent-encoding of "%" and of every byte that is
// not visible ASCII or an inner space (RFC 3986 §2.1).
type IdentityHeaders map[string]string

// Sources of identity headers.
const (
	sourceEmail       = "email"
	sourceID          = "id"
	sourceUserName    = "user_name"
	sourceDisplayName = "display_name"

	maxIdentityValue = 1 << 10
)

// DefaultIdentityHeaders is the table that comes closest to what the platform's own proxy sets. The platform documents
// of X-Forwarded-Email, -User and -Preferred-Username only that they are the e-mail, "the user identifier" and "the user
// name provided by the IdP". That the identifier has the form <user id>@<workspace id> is seen in practice, not
// documented: see WithWorkspace.
func DefaultIdentityHeaders() IdentityHeaders {
	return IdentityHeaders{
		relay.HeaderEmail:             sourceEmail,
		relay.HeaderUser:              sourceID,
		relay.HeaderPreferredUsername: sourceUserName,
	}
}

// WithWorkspace returns a copy of the table in which every source id has become id@<workspace id>. With an empty id it is
// an unchanged copy.
func (t IdentityHeaders) WithWorkspace(id string) IdentityHeaders {
	c := maps.Clone(t)
	for name, source := range c {
		if source == sourceID && id != "" {
			c[name] = sourceID + "@" + id
		}
	}
	return c
}

// validate returns every fault of the table.
func (t IdentityHeaders) validate() error {
	var faults []error
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		folded := foldHeader(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			faults = append(faults, fmt.Errorf("identity headers: %q is not a header name", name))
		case seen[folded] != "":
			faults = append(faults, fmt.Errorf("identity headers: %s and %s are the same header to some servers", seen[folded], name))
		case reservedHeader(folded):
			faults = append(faults, fmt.Errorf("identity headers: %s is needed for something else", name))
		}
		seen[folded] = name
		if !validSource(t[name]) {
			faults = append(faults, fmt.Errorf("identity headers: %s: unknown source %q (email, id, id@SUFFIX, user_name, display_name)", name, t[name]))
		}
	}
	return errors.Join(faults...)
}

func validSource(source string) bool {
	switch source {
	case sourceEmail, sourceID, sourceUserName, sourceDisplayName:
		return true
	}
	suffix, ok := strings.CutPrefix(source, sourceID+"@")
	return ok && plainValue(suffix) && len(suffix) <= 64
}

// reservedHeader are names whose meaning a value of ours would change.
func reservedHeader(folded string) bool {
	switch folded {
	case "authorization", "connection", "cookie", "expect", "forwarded", "host", "keep-alive", "set-cookie", "te",
		"trailer", "traceparent", "tracestate", "transfer-encoding", "upgrade", "x-forwarded-access-token",
		"x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip", "x-request-id":
		return true
	}
	return strings.HasPrefix(folded, "content-") || strings.HasPrefix(folded, "proxy-") || strings.HasPrefix(folded, "obo-")
}

// apply sets the headers for a person, or for nobody if u is nil, and returns the names of those that were left out
// because the value does not fit.
func (t IdentityHeaders) apply(h http.Header, u *User) (unfit []string) {
	t.clear(h)
	if u == nil {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		value, ok := u.identity(t[name])
		switch {
		case !ok:
			unfit = append(unfit, name)
		case value != "":
			h.Set(name, value)
		}
	}
	return unfit
}

// clear removes what a message may have brought under the table's names and under the platform's own.
func (t IdentityHeaders) clear(h http.Header) {
	for name := range h {
		for ours := range t {
			if sameHeader(name, ours) {
				delete(h, name)
			}
		}
		for _, ours := range [...]string{relay.HeaderEmail, relay.HeaderUser, relay.HeaderPreferredUsername} {
			if sameHeader(name, ours) {
				delete(h, name)
			}
		}
	}
}

// sameHeader compares as foldHeader would make equal.
func sameHeader(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if foldByte(a[i]) != foldByte(b[i]) {
			return false
		}
	}
	return true
}

func foldByte(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_':
		return '-'
	}
	return c
}

// foldHeader makes names equal that a CGI-like server (RFC 3875 §4.1.18) cannot tell apart.
func foldHeader(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// identity returns the value of a source, empty if the person has none, and whether it fits.
func (u *User) identity(source string) (value string, fits bool) {
	switch source {
	case sourceEmail:
		return u.email()
	case sourceID:
		value = u.ID
	case sourceUserName:
		value = u.UserName
	case sourceDisplayName:
		value = percentEncode(u.DisplayName)
	default:
		if plainValue(u.ID) {
			return u.ID + strings.TrimPrefix(source, sourceID), true
		}
		value = u.ID
	}
	return value, value == "" || plainValue(value)
}

func (u *User) email() (value string, fits bool) {
	if len(u.Emails) > 0 {
		return u.Emails[0], looksLikeEmail(u.Emails[0])
	}
	if looksLikeEmail(u.UserName) {
		return u.UserName, true
	}
	return "", true
}

// looksLikeEmail is narrower than RFC 5322: a list, a display name or white space would be read as something else.
func looksLikeEmail(s string) bool {
	local, domain, ok := strings.Cut(s, "@")
	return ok && local != "" && domain != "" && plainValue(s) && !strings.ContainsAny(s, " ,;<>\"()") && !strings.Contains(domain, "@")
}

// plainValue reports whether a value survives HTTP unchanged.
func plainValue(s string) bool {
	if s == "" || len(s) > maxIdentityValue || s[0] == ' ' || s[len(s)-1] == ' ' {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func percentEncode(s string) string {
	s = strings.TrimSpace(s)
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
