package relay

import "strings"

const maxPath = 8 << 10

// CheckPath refuses a path that two servers could read differently (PROTOCOL.md §9): the policy is matched on the very
// path that is forwarded. The path is percent-encoded and has no query.
func CheckPath(p string) error {
	if len(p) > maxPath {
		return Errorf(CodeHeadTooLarge, "the path has %d bytes, the limit is %d", len(p), maxPath)
	}
	if !strings.HasPrefix(p, "/") {
		return NewError(CodePathNotCanonical, "the path does not start with /")
	}
	if err := checkPathBytes(p); err != nil {
		return err
	}
	rest, more := p[1:], true
	for more {
		var s string
		s, rest, more = strings.Cut(rest, "/")
		switch {
		case s == "" && more:
			return NewError(CodePathNotCanonical, "the path has an empty segment (//)")
		case s == "." || s == "..":
			return NewError(CodePathNotCanonical, "the path has a dot segment")
		}
	}
	return nil
}

func checkPathBytes(p string) error {
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c <= ' ' || c > '~':
			return NewError(CodePathNotCanonical, "the path holds characters other than visible ASCII")
		case c == '\\' || c == '?' || c == '#':
			return NewError(CodePathNotCanonical, "the path holds a backslash, ? or #")
		case c == '%':
			if i+2 >= len(p) {
				return NewError(CodePathNotCanonical, "the path ends in an incomplete percent-escape")
			}
			hi, lo := hexValue(p[i+1]), hexValue(p[i+2])
			if hi < 0 || lo < 0 {
				return NewError(CodePathNotCanonical, "the path holds a malformed percent-escape")
			}
			switch d := byte(hi<<4 | lo); {
			case d == '/' || d == '\\' || d == '.':
				return NewError(CodePathNotCanonical, "the path holds an encoded slash, backslash or dot")
			case d < ' ' || d == 0x7F:
				return NewError(CodePathNotCanonical, "the path holds an encoded control character")
			}
			i += 2
		}
	}
	return nil
}

func hexValue(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
