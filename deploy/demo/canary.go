package demo

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// needle is one form in which a secret could have leaked.
type needle struct {
	form  string
	bytes []byte
}

// needles are a token as it is and as base64, base64url, hex and URL encoding would show it, and each of its parts that
// says something about the person.
func needles(token string) []needle {
	list := encoded("", token)
	for i, part := range strings.Split(token, ".") {
		const telling = 16 // a shorter text may occur by chance
		if i > 0 && len(part) >= telling {
			list = append(list, encoded(fmt.Sprintf("part %d, ", i+1), part)...)
		}
	}
	return list
}

func encoded(of, secret string) []needle {
	list := []needle{
		{of + "raw", []byte(secret)},
		{of + "hex", []byte(hex.EncodeToString([]byte(secret)))},
		{of + "URL-encoded", []byte(strings.ReplaceAll(url.QueryEscape(secret), ".", "%2E"))},
	}
	// In base64 a secret looks different at each of three offsets; its first and last characters depend on what
	// stands beside it, so they are left out.
	for offset := range 3 {
		padded := append(make([]byte, offset), secret...)
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			text := encoding.EncodeToString(padded)
			list = append(list, needle{fmt.Sprintf("%s%s at offset %d", of, name, offset), []byte(text[4 : len(text)-4])})
		}
	}
	return list
}

// hits counts how often any of the needles occurs.
func hits(haystack []byte, list []needle) int {
	n := 0
	for _, needle := range list {
		n += bytes.Count(haystack, needle.bytes)
	}
	return n
}

// planted is a haystack with the secret hidden in each of the forms; a search that works finds all of them.
func planted(haystack []byte, list []needle) []byte {
	for _, needle := range list {
		haystack = append(append(slices.Clip(haystack), '|'), needle.bytes...)
	}
	return haystack
}

// found counts the needles that occur at all.
func found(haystack []byte, list []needle) int {
	n := 0
	for _, needle := range list {
		if bytes.Contains(haystack, needle.bytes) {
			n++
		}
	}
	return n
}

// captured is every byte that the messages consist of.
func captured(messages []Message) []byte {
	var b bytes.Buffer
	for _, m := range messages {
		fmt.Fprintf(&b, "%s %s\n", m.Subject, m.Reply)
		for name, values := range m.Header {
			fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(values, ","))
		}
		b.Write(m.Data)
		b.WriteByte('\n')
	}
	return b.Bytes()
}
