package relay

import (
	"encoding/binary"
	"errors"
	"net/http"
	"net/textproto"
	"strings"
	"time"
)

// Type constants of the documents inside frames.
const (
	RequestHeadTypeName = "obo.v1.request-head"
	ReplyHeadTypeName   = "obo.v1.reply-head"
	EndTypeName         = "obo.v1.end"
)

const (
	maxTimeout = 24 * time.Hour
	usualHead  = 768 // bytes of JSON, of which one that is larger takes more allocations
)

// RequestHead is the JSON of a request's first frame: everything that decides (PROTOCOL.md §9).
type RequestHead struct {
	Method    string      `json:"method"`
	Path      string      `json:"path"`
	Query     string      `json:"query,omitzero"`
	Header    http.Header `json:"header"`
	Length    int64       `json:"length"` // bytes; -1 = not known
	Trailer   []string    `json:"trailer,omitempty"`
	Subject   string      `json:"subject"`
	Reply     string      `json:"reply"`
	IssuedAt  int64       `json:"iat_ms"`     // Unix milliseconds
	TimeoutMS int64       `json:"timeout_ms"` // to the first byte of the reply head
}

// Timeout is the time to the first byte of the reply head.
func (h *RequestHead) Timeout() time.Duration { return time.Duration(h.TimeoutMS) * time.Millisecond }

// Check applies the rules of PROTOCOL.md §9. It returns an *Error whose detail quotes nothing of the request.
func (h *RequestHead) Check() error {
	switch {
	case !ValidMethod(h.Method):
		return NewError(CodeBadRequest, "the method is not an HTTP token of at most 32 characters, or is CONNECT")
	case h.Length < -1:
		return NewError(CodeBadRequest, "the length is negative")
	case h.TimeoutMS < 1 || h.TimeoutMS > maxTimeout.Milliseconds():
		return NewError(CodeBadRequest, "the timeout is not between 1 ms and 24 h")
	case !validQuery(h.Query):
		return NewError(CodeBadRequest, "the query holds characters other than visible ASCII, or #")
	}
	if err := CheckPath(h.Path); err != nil {
		return err
	}
	if strings.ContainsAny(h.Path, "\"<>^`{|}") { // net/url would rewrite the whole path
		return NewError(CodePathNotCanonical, "the path holds a character that must be percent-encoded (RFC 3986 §3.3)")
	}
	if err := checkHeader(h.Header); err != nil {
		return err
	}
	return checkNames(h.Trailer)
}

// ReplyHead is the JSON of a reply's head, whole or inform frame.
type ReplyHead struct {
	Status  int         `json:"status"`
	Header  http.Header `json:"header"`
	Length  int64       `json:"length"` // bytes; -1 = not known
	Trailer []string    `json:"trailer,omitempty"`
	Refusal *Problem    `json:"refusal,omitzero"` // the request was not started
	Failure *Problem    `json:"failure,omitzero"` // the worker made this answer after the start
}

func (h *ReplyHead) check() error {
	if h.Status < 100 || h.Status > 999 || h.Length < -1 {
		return NewError(CodeStreamBroken, "the reply head has a number out of range")
	}
	if h.Refusal != nil && h.Failure != nil {
		return NewError(CodeStreamBroken, "the reply head says both that the request was not started and that it failed")
	}
	if err := checkHeader(h.Header); err != nil {
		return err
	}
	return checkNames(h.Trailer)
}

// End is the JSON of an end frame.
type End struct {
	Trailer http.Header `json:"trailer,omitzero"`
	Failure *Problem    `json:"failure,omitzero"` // the body is broken off
}

// EncodeHead renders a RequestHead, ReplyHead or End. A head over MaxHead is CodeHeadTooLarge.
func EncodeHead(v any) ([]byte, error) {
	var b []byte
	var plain bool
	switch h := v.(type) {
	case *RequestHead:
		b, plain = h.appendPlain(make([]byte, 0, usualHead))
	case *ReplyHead:
		b, plain = h.appendPlain(make([]byte, 0, usualHead))
	}
	if !plain {
		var err error
		if b, err = marshal(v); err != nil {
			return nil, Wrap(CodeBadRequest, jsonError(err), "the head cannot be encoded")
		}
	}
	if len(b) > MaxHead {
		return nil, Errorf(CodeHeadTooLarge, "URL and headers take %d bytes, the limit is %d", len(b), MaxHead)
	}
	return b, nil
}

// DecodeRequestHead is strict about the document's form; Check is about its values.
func DecodeRequestHead(b []byte) (*RequestHead, error) {
	h := new(RequestHead)
	if !h.readPlain(string(b)) {
		*h = RequestHead{}
		if err := unmarshalStrict(b, h); err != nil {
			return nil, err
		}
	}
	if h.Header == nil { // so that fields can be set
		h.Header = http.Header{}
	}
	return h, nil
}

// DecodeReplyHead decodes and checks a reply head.
func DecodeReplyHead(b []byte) (*ReplyHead, error) {
	h := new(ReplyHead)
	if !h.readPlain(string(b)) {
		*h = ReplyHead{}
		if err := unmarshalStrict(b, h); err != nil {
			return nil, err
		}
	}
	if h.Header == nil { // so that fields can be set
		h.Header = http.Header{}
	}
	return h, h.check()
}

// DecodeEnd decodes and checks an end.
func DecodeEnd(b []byte) (*End, error) {
	e := new(End)
	if err := unmarshalStrict(b, e); err != nil {
		return nil, err
	}
	return e, checkHeader(e.Trailer)
}

// Unfit is the failure of a stream on which the peer sent a document that is not valid. It says by which rule where that quotes
// nothing of it.
func Unfit(peer, document string, err error) *Error {
	detail := "the " + peer + " sent no valid " + document
	if rule, ok := errors.AsType[*Error](err); ok {
		detail += ": " + rule.Detail
	}
	return Wrap(CodeStreamBroken, err, detail)
}

// splitHead parts the plaintext of a head or whole frame.
func splitHead(plaintext []byte) (head, body []byte, err error) {
	if len(plaintext) < 4 {
		return nil, nil, errors.New("head: too short")
	}
	n := binary.BigEndian.Uint32(plaintext)
	if n > MaxHead || int(n) > len(plaintext)-4 {
		return nil, nil, errors.New("head: its length does not fit")
	}
	return plaintext[4 : 4+n], plaintext[4+n:], nil
}

// ValidMethod reports whether m can be relayed: an RFC 9110 §9.1 token of at most 32 characters, not CONNECT.
func ValidMethod(m string) bool {
	if m == "" || len(m) > 32 || m == http.MethodConnect {
		return false
	}
	for i := range len(m) {
		if !isToken(m[i]) {
			return false
		}
	}
	return true
}

// SafeMethod reports whether a method is safe (RFC 9110 §9.2.1).
func SafeMethod(m string) bool {
	return m == http.MethodGet || m == http.MethodHead || m == http.MethodOptions || m == http.MethodTrace
}

func validQuery(q string) bool {
	for i := range len(q) {
		if c := q[i]; c <= ' ' || c > '~' || c == '#' {
			return false
		}
	}
	return true
}

// isToken reports whether c is a tchar (RFC 9110 §5.6.2).
func isToken(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return false
}

// checkHeader refuses names and values that could not stand in an HTTP/1.1 message.
func checkHeader(h http.Header) error {
	for name, values := range h {
		if err := checkName(name); err != nil {
			return err
		}
		for _, v := range values {
			for i := range len(v) {
				if v[i] == '\r' || v[i] == '\n' || v[i] == 0 {
					return NewError(CodeBadRequest, "a header value holds CR, LF or NUL")
				}
			}
		}
	}
	return nil
}

// checkNames refuses names of trailers that could not stand in the Trailer field.
func checkNames(names []string) error {
	for _, name := range names {
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

func checkName(name string) error {
	if name == "" || textproto.CanonicalMIMEHeaderKey(name) != name {
		return NewError(CodeBadRequest, "a header name is not in canonical form")
	}
	for i := range len(name) {
		if !isToken(name[i]) {
			return NewError(CodeBadRequest, "a header name is not an HTTP token")
		}
	}
	return nil
}
