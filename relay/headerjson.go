package relay

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Header fields in JSON (PROTOCOL.md §9): each byte of a value is the code point of the same number (isomorphic decoding,
// WHATWG Infra), so that any byte survives. They are read and written token by token: by reflection they would be half of
// the time that a head takes.
var (
	writeFields = json.WithMarshalers(json.MarshalToFunc(marshalFields))
	readFields  = json.WithUnmarshalers(json.UnmarshalFromFunc(unmarshalFields))
)

func marshalFields(enc *jsontext.Encoder, h http.Header) error {
	if err := enc.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	names := slices.AppendSeq(make([]string, 0, len(h)), maps.Keys(h))
	slices.Sort(names)
	for _, name := range names {
		if err := enc.WriteToken(jsontext.String(name)); err != nil {
			return err
		}
		if err := enc.WriteToken(jsontext.BeginArray); err != nil {
			return err
		}
		for _, v := range h[name] {
			if err := enc.WriteToken(jsontext.String(bytesToText(v))); err != nil {
				return err
			}
		}
		if err := enc.WriteToken(jsontext.EndArray); err != nil {
			return err
		}
	}
	return enc.WriteToken(jsontext.EndObject)
}

var errFields = errors.New("not an object of arrays of strings")

func unmarshalFields(dec *jsontext.Decoder, h *http.Header) error {
	if dec.PeekKind() == 'n' { // null is as good as no such member
		*h = nil
		return expect(dec, 'n')
	}
	if err := expect(dec, '{'); err != nil {
		return err
	}
	out := http.Header{}
	var one []string // backs the many fields with one value
	for dec.PeekKind() == '"' {
		token, err := dec.ReadToken()
		if err != nil {
			return err
		}
		name := token.String()
		if err := expect(dec, '['); err != nil {
			return err
		}
		if len(one) == 0 {
			one = make([]string, 8)
		}
		values := one[:0:1]
		one = one[1:]
		for dec.PeekKind() == '"' {
			token, err := dec.ReadToken()
			if err != nil {
				return err
			}
			v, err := textToBytes(token.String())
			if err != nil {
				return err
			}
			values = append(values, v)
		}
		if err := expect(dec, ']'); err != nil {
			return err
		}
		out[name] = values
	}
	*h = out
	return expect(dec, '}')
}

func expect(dec *jsontext.Decoder, kind jsontext.Kind) error {
	token, err := dec.ReadToken()
	if err == nil && token.Kind() != kind {
		err = errFields
	}
	return err
}

func bytesToText(v string) string {
	if isASCII(v) {
		return v
	}
	var b strings.Builder
	for i := range len(v) {
		b.WriteRune(rune(v[i]))
	}
	return b.String()
}

var errCodePoint = errors.New("a header value holds a code point over U+00FF")

func textToBytes(v string) (string, error) {
	if isASCII(v) {
		return v, nil
	}
	b := make([]byte, 0, len(v))
	for _, r := range v {
		if r > 0xFF {
			return "", errCodePoint
		}
		b = append(b, byte(r))
	}
	return string(b), nil
}

func isASCII(v string) bool {
	for i := range len(v) {
		if v[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
