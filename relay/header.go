package relay

import (
	"net/http"
	"net/textproto"
	"strings"
)

// Headers of the platform that matter here.
const (
	HeaderAccessToken       = "X-Forwarded-Access-Token"
	HeaderEmail             = "X-Forwarded-Email"
	HeaderUser              = "X-Forwarded-User"
	HeaderPreferredUsername = "X-Forwarded-Preferred-Username"
	HeaderRequestID         = "X-Request-Id"
	HeaderIdempotencyKey    = "Idempotency-Key"
	// HeaderOboID tells the caller the relay's request id; it never crosses the relay as a header.
	HeaderOboID = "Obo-Id"
	// HeaderTimeout asks for another time to the first byte for one request: decimal seconds, taken by the publisher.
	HeaderTimeout = "Obo-Timeout"
)

// StripRequest removes every field that may not cross from a request (PROTOCOL.md §9), in any letter case and with _ for
// -, since some servers (WSGI, CGI) cannot tell the two apart. Publisher and worker both apply it.
func StripRequest(h http.Header) {
	named := connectionNames(h)
	var buf [64]byte
	for name := range h {
		folded := foldName(buf[:0], name)
		if requestDropped(folded) || hopByHop(folded) || named[string(folded)] {
			delete(h, name)
		}
	}
}

// StripReply removes every field that may not cross from a reply.
func StripReply(h http.Header) {
	named := connectionNames(h)
	var buf [64]byte
	for name := range h {
		folded := foldName(buf[:0], name)
		if hopByHop(folded) || hasPrefix(folded, "obo-") || named[string(folded)] {
			delete(h, name)
		}
	}
}

// StripTrailer removes from trailers what may not be a trailer or may not cross.
func StripTrailer(h http.Header) {
	StripRequest(h)
	delete(h, "Content-Length")
}

// CanonicalHeader brings names into canonical MIME form, the only one that a head may hold. Go's clients and handlers may
// set others, which a server or client at the other end of a connection would read the same.
func CanonicalHeader(h http.Header) {
	for name, values := range h {
		if canonical := textproto.CanonicalMIMEHeaderKey(name); canonical != name {
			delete(h, name)
			h[canonical] = append(h[canonical][:len(h[canonical]):len(h[canonical])], values...)
		}
	}
}

// CleanHeader does what net/http does when it writes a header: names that are none, among them those of late trailers, are
// left out, and line breaks in values become spaces.
func CleanHeader(h http.Header) {
	CanonicalHeader(h)
	for name, values := range h {
		if checkName(name) != nil || len(values) == 0 {
			delete(h, name)
			continue
		}
		for i, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") {
				values[i] = lineBreaks.Replace(v)
			}
		}
	}
}

var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ", "\x00", " ")

// foldName appends the name in lower case and with - for _. It works on bytes since every field of every message passes.
func foldName(b []byte, name string) []byte {
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == '_':
			c = '-'
		}
		b = append(b, c)
	}
	return b
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// connectionNames lists the fields that Connection names (RFC 9110 §7.6.1); nil if there are none.
func connectionNames(h http.Header) map[string]bool {
	var named map[string]bool
	var buf [64]byte
	for field, values := range h {
		if string(foldName(buf[:0], field)) != "connection" {
			continue
		}
		for _, v := range values {
			for name := range strings.SplitSeq(v, ",") {
				if named == nil {
					named = map[string]bool{}
				}
				named[string(foldName(nil, strings.TrimSpace(name)))] = true
			}
		}
	}
	return named
}

func hopByHop(folded []byte) bool {
	switch string(folded) {
	case "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade":
		return true
	}
	return hasPrefix(folded, "proxy-")
}

func requestDropped(folded []byte) bool {
	switch string(folded) {
	case "host", "expect", "content-length", "authorization", "forwarded", "x-real-ip",
		"x-http-method-override", "x-http-method", "x-method-override",
		// Some servers take another path than the request line's from these, past the worker's policy: gunicorn cuts
		// SCRIPT_NAME off the path; the X- names are those of IIS, of PHP frameworks and of a recipe for WSGI.
		"script-name", "path-info", "x-script-name", "x-path-info", "x-original-url", "x-rewrite-url", "x-original-uri", "x-original-method":
		return true
	}
	return hasPrefix(folded, "x-forwarded-") || hasPrefix(folded, "obo-") || string(folded) == "x-forwarded"
}

// RequestID returns the caller's request id if it may be passed on, else the relay's own.
func RequestID(h http.Header, id ID) string {
	v := h.Get(HeaderRequestID)
	if v == "" || len(v) > 128 || strings.Trim(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:/+=-") != "" {
		return id.String()
	}
	return v
}
