package relay

import "strings"

// Unquoted is a text of the standard library up to where it quotes what somebody has sent: most often a part of a message.
func Unquoted(text string) string {
	text, _, _ = strings.Cut(text, `"`)
	return strings.TrimSpace(text)
}

// UnquotedError is err with Unquoted's text, for logs.
func UnquotedError(err error) error { return unquotedError{err} }

type unquotedError struct{ error }

func (e unquotedError) Error() string { return Unquoted(e.error.Error()) }
func (e unquotedError) Unwrap() error { return e.error }
