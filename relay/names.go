package relay

import (
	"crypto/rand"
	"encoding/base32"
	"regexp"
	"strings"
)

var (
	prefixPattern = regexp.MustCompile(`^[A-Za-z0-9-][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$`)
	idEncoding    = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
)

const (
	idBytes       = 16
	idLength      = 26
	instanceBytes = 10
	instanceLen   = 16
)

// ValidName reports whether s can name an app or a service: the form of a Databricks App's name (PROTOCOL.md §3).
// It is a loop because every message is parsed with it.
func ValidName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// URLVariable is the environment variable in which an app finds the address of a service's sidecar.
func URLVariable(service string) string {
	return "OBO_URL_" + strings.ToUpper(strings.ReplaceAll(service, "-", "_"))
}

// ID is a 128-bit identifier of a request, a grant or an inbox.
type ID [idBytes]byte

// NewID draws an identifier from crypto/rand.
func NewID() (id ID) {
	_, _ = rand.Read(id[:]) // never fails (Go 1.24)
	return id
}

// ParseID reads the 26-character form and refuses every other spelling.
func ParseID(s string) (id ID, ok bool) {
	if len(s) != idLength {
		return id, false
	}
	n, err := idEncoding.Decode(id[:], []byte(s))
	return id, err == nil && n == idBytes && id.String() == s
}

// String is the 26-character base32 form.
func (id ID) String() string {
	var b [idLength]byte
	idEncoding.Encode(b[:], id[:])
	return string(b[:])
}

// MarshalText is String, for JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseID, for JSON.
func (id *ID) UnmarshalText(text []byte) error {
	parsed, ok := ParseID(string(text))
	if !ok {
		return NewError(CodeRefused, "not a 26-character id")
	}
	*id = parsed
	return nil
}

// NewInstance draws the 16-character id of a worker process.
func NewInstance() string {
	var b [instanceBytes]byte
	_, _ = rand.Read(b[:])
	return idEncoding.EncodeToString(b[:])
}

// ValidInstance reports whether s is an instance id.
func ValidInstance(s string) bool {
	if len(s) != instanceLen {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz234567") == ""
}
