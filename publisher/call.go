package publisher

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/obo-relay/obo-relay/relay"
)

// inlineBody is the longest body that is read before the request is sent: it then travels in one message with the head,
// and can be sent again to another instance.
const inlineBody = 32 << 10

// call is one HTTP request on its way, over all its attempts.
type call struct {
	ctx     context.Context
	request *http.Request
	service string
	token   relay.Token
	tag     tag
	head    relay.RequestHead // without subject, reply and time
	whole   bool              // body holds all of it
	body    []byte
	stream  io.ReadCloser // the body, if it is not whole; nil once it has been used
}

// newCall checks the request and takes the token from it. It does not change the request.
func (t *Transport) newCall(r *http.Request) (*call, *relay.Error) {
	if r.URL == nil {
		return nil, relay.NewError(relay.CodeBadRequest, "the request has no URL")
	}
	c := &call{ctx: r.Context(), request: r, service: r.URL.Host}
	if !t.directory.known(c.service) {
		return nil, relay.Errorf(relay.CodeServiceUnknown, "service %q is not in the trust file (the URL's host is the service)", safeName(c.service))
	}
	if upgrades(r.Header) {
		return nil, relay.NewError(relay.CodeUpgradeUnsupported, "the request asks for an upgrade of the connection")
	}
	if r.URL.Opaque != "" {
		return nil, relay.NewError(relay.CodeBadRequest, "the request's URL has Opaque set: set Path, and RawPath for an escaping of your own")
	}
	raw, err := tokenOf(r.Header)
	if err == nil {
		c.token, c.tag, err = t.grants.token(raw)
	}
	if err == nil {
		err = checkToken(c.token, t.cfg.OpaqueTokens, t.cfg.Now())
	}
	if err != nil {
		return nil, relay.AsError(err)
	}
	timeout, err := t.timeout(r)
	if err != nil {
		return nil, relay.AsError(err)
	}
	h := maps.Clone(r.Header) // the values are only read
	if h == nil {
		h = http.Header{}
	}
	relay.StripRequest(h)
	relay.CanonicalHeader(h)
	c.head = relay.RequestHead{
		Method: method(r), Path: r.URL.EscapedPath(), Query: escapedQuery(r.URL.RawQuery), Header: h, TimeoutMS: max(1, timeout.Milliseconds()),
	}
	if len(r.Trailer) > 0 {
		c.head.Trailer = slices.Sorted(maps.Keys(r.Trailer))
	}
	if c.head.Path == "" {
		c.head.Path = "/"
	}
	if err := c.head.Check(); err != nil {
		return nil, relay.AsError(err)
	}
	if err := c.readBody(); err != nil {
		return nil, err
	}
	return c, nil
}

func method(r *http.Request) string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

// upgrades reports a request that cannot go on over HTTP/1.1. One that offers h2c can, and most servers pass over it: Java's
// client offers it with each request, and so does curl --http2.
func upgrades(h http.Header) bool {
	for _, v := range h["Upgrade"] {
		for protocol := range strings.SplitSeq(v, ",") {
			if !strings.EqualFold(strings.TrimSpace(protocol), "h2c") {
				return true
			}
		}
	}
	return false
}

// escapedQuery percent-encodes bytes over 0x7F, which many clients send as they are: URL.EscapedPath does so with those of the path.
func escapedQuery(q string) string {
	from := strings.IndexFunc(q, func(c rune) bool { return c >= utf8.RuneSelf })
	if from < 0 {
		return q
	}
	b := []byte(q[:from])
	for i := from; i < len(q); i++ {
		if q[i] < utf8.RuneSelf {
			b = append(b, q[i])
		} else {
			b = fmt.Appendf(b, "%%%02X", q[i])
		}
	}
	return string(b)
}

// timeout is the least of the configured one or the request's own (Obo-Timeout, in seconds), and the context's.
func (t *Transport) timeout(r *http.Request) (time.Duration, error) {
	d := t.cfg.Timeout
	if v := r.Header.Get(relay.HeaderTimeout); v != "" {
		seconds, err := strconv.ParseFloat(v, 64)
		if err != nil || !(seconds >= 0.001 && seconds <= 86400) {
			return 0, relay.NewError(relay.CodeBadRequest, relay.HeaderTimeout+" is not a number of seconds from 0.001 to 86400")
		}
		d = time.Duration(seconds * float64(time.Second))
	}
	if deadline, ok := r.Context().Deadline(); ok {
		d = min(d, time.Until(deadline))
	}
	return d, nil
}

// readAhead reports whether the body is small and read before the request is sent, or there is none.
func readAhead(r *http.Request) bool {
	return r.Body == nil || r.Body == http.NoBody || r.ContentLength > 0 && r.ContentLength <= inlineBody && len(r.Trailer) == 0
}

// readBody reads a small body of known length; of any other it only notes the length.
func (c *call) readBody() *relay.Error {
	r := c.request
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		c.whole = true
		return nil
	case readAhead(r):
		c.whole, c.head.Length = true, r.ContentLength
		body := make([]byte, r.ContentLength+1)
		got, ok := c.readFull(body)
		switch {
		case !ok:
			return neverSent(canceled(c.ctx))
		case got.err == nil:
			return relay.NewError(relay.CodeBadRequest, "the body is longer than its Content-Length")
		case got.err != io.ErrUnexpectedEOF || int64(got.n) < r.ContentLength:
			return relay.Wrap(relay.CodeBadRequest, got.err, "the body is shorter than its Content-Length, or could not be read")
		}
		c.body = body[:r.ContentLength]
		_ = r.Body.Close() // it has been read whole
		return nil
	}
	c.stream = r.Body
	c.head.Length = -1
	if r.ContentLength > 0 {
		c.head.Length = r.ContentLength
	}
	return nil
}

// filled is what came of reading into a buffer.
type filled struct {
	n   int
	err error
}

// readFull fills b from the body; false: the caller waits no longer. What was made from memory keeps nobody waiting, and at the
// sidecar the body ends when its caller leaves.
func (c *call) readFull(b []byte) (filled, bool) {
	read := func() filled {
		n, err := io.ReadFull(c.request.Body, b)
		return filled{n, err}
	}
	if c.request.GetBody != nil || c.ctx.Done() == nil || servedFrom(c.ctx) != nil {
		return read(), true
	}
	done := make(chan filled, 1)
	go func() { done <- read() }()
	select {
	case got := <-done:
		return got, true
	case <-c.ctx.Done(): // RoundTrip closes the body, which ends reading
		return filled{}, false
	}
}

// takeStream returns the body for an attempt: the caller's own the first time, then new ones while the caller can make
// them. False: it has been used up.
func (c *call) takeStream() (io.ReadCloser, bool) {
	if c.whole {
		return nil, true
	}
	if body := c.stream; body != nil {
		c.stream = nil
		return body, true
	}
	if c.request.GetBody == nil {
		return nil, false
	}
	body, err := c.request.GetBody()
	return body, err == nil
}

// repeatable reports whether the request may be executed twice.
func (c *call) repeatable() bool {
	return relay.SafeMethod(c.head.Method) || c.head.Header.Get(relay.HeaderIdempotencyKey) != ""
}
