package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// guard is the transport under the SDK. It keeps the token on the workspace's host, follows no redirect, and is the only
// one that sends a request again. Its errors are *callFault, whose texts the SDK does not take for a reason to retry.
type guard struct {
	base         http.RoundTripper
	host         *url.URL
	retryTimeout time.Duration
	userAgent    string
}

// maxJSON limits the answers that the SDK reads into memory as a whole. SQL results inline are at most 25 MiB.
const maxJSON = 32 << 20

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := g.send(r, g.retryTimeout)
	return g.judge(r, resp, err)
}

// send returns what the host answered, whatever it is.
func (g *guard) send(r *http.Request, retryTimeout time.Duration) (*http.Response, error) {
	if r.URL.Scheme != g.host.Scheme || r.URL.Host != g.host.Host {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, &callFault{reason: "a call to another host was stopped", unsent: true}
	}
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", g.userAgent) // the SDK's tells what it finds in the environment
	var body func() (io.ReadCloser, error)
	if !relay.SafeMethod(r.Method) {
		body = sendOnce(r)
	}
	deadline := time.Now().Add(retryTimeout)
	for attempt := 0; ; attempt++ {
		resp, tries, err := fewTries(g.base, r)
		if notTaken(err) {
			if body == nil || attempt+1 >= maxTries || !pause(r.Context(), time.Duration(attempt)*minBackoff/2) {
				return nil, &callFault{reason: "the workspace did not take the request, it may be about to close its connections", unsent: true}
			}
			r = r.WithContext(r.Context()) // net/http may still look at the last one
			if r.Body, err = body(); err != nil {
				return nil, newCallFault(err)
			}
			continue
		}
		wait, again := retryAfter(r, resp, err, attempt)
		if !again || time.Now().Add(wait).After(deadline) {
			if err != nil && tries > 0 && !relay.SafeMethod(r.Method) { // the last one proves nothing of those before
				f := newCallFault(err)
				f.unsent = false
				return nil, f
			}
			return resp, err
		}
		discard(resp)
		if !pause(r.Context(), wait) {
			return nil, newCallFault(r.Context().Err())
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// maxTries is how often net/http may send a request without a body by itself.
const maxTries = 8

// fewTries sends a request, and tells how often net/http did so if it may do so again: over HTTP/2 with each stream that the server
// resets with PROTOCOL_ERROR, without end.
func fewTries(base http.RoundTripper, r *http.Request) (*http.Response, int64, error) {
	if r.Body != nil && r.Body != http.NoBody {
		resp, err := base.RoundTrip(r)
		return resp, 0, err
	}
	var tries atomic.Int64
	resets := &callFault{reason: "the workspace broke off the request each time that it was sent"}
	ctx, cancel := context.WithCancelCause(r.Context())
	resp, err := base.RoundTrip(r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		if tries.Add(1) > maxTries {
			cancel(resets)
		}
	}})))
	if err == nil {
		resp.Body = &endingBody{resp.Body, cancel}
		return resp, tries.Load(), nil
	}
	defer cancel(nil)
	if context.Cause(ctx) == error(resets) {
		err = resets
	}
	return nil, tries.Load(), err
}

// endingBody ends the context of its request when it is closed.
type endingBody struct {
	io.ReadCloser
	end context.CancelCauseFunc
}

func (b *endingBody) Close() error {
	defer b.end(nil)
	return b.ReadCloser.Close()
}

// sendOnce leaves net/http nothing to send again: by itself it repeats what has an Idempotency-Key, and over HTTP/2 whatever
// the server resets, also with PROTOCOL_ERROR, which does not say that the request was not executed. A DELETE without a body is
// left as it is: some servers would refuse one that seems to have a body. It returns how the body is had again, nil if it cannot.
func sendOnce(r *http.Request) (body func() (io.ReadCloser, error)) {
	body, r.GetBody = r.GetBody, nil
	if (r.Body == nil || r.Body == http.NoBody) && r.Method != http.MethodDelete {
		body = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil } // not known to be empty
		r.Body, _ = body()
	}
	return body
}

// notTaken reports an error that proves that the server did not process a request with a body (RFC 9113 sections 6.8 and 8.7):
// net/http would send it again, if it could. It has no type for that.
func notTaken(err error) bool {
	if err == nil {
		return false
	}
	_, why, ok := strings.Cut(err.Error(), "http2: Transport: cannot retry err [")
	return ok && (strings.HasPrefix(why, "http2: Transport received Server's graceful shutdown GOAWAY]") ||
		strings.HasPrefix(why, "stream error: ") && strings.Contains(why, "; REFUSED_STREAM; received from peer]"))
}

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// retryAfter reports whether the same request may be sent again, and when.
func retryAfter(r *http.Request, resp *http.Response, err error, attempt int) (time.Duration, bool) {
	if (r.Method != http.MethodGet && r.Method != http.MethodHead) || (r.Body != nil && r.Body != http.NoBody) || r.Context().Err() != nil {
		return 0, false
	}
	backoff := min(minBackoff<<min(attempt, 8), maxBackoff)
	backoff = backoff/2 + rand.N(backoff/2)
	if err != nil {
		_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
		return backoff, !untrusted
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return max(backoff, parseRetryAfter(resp.Header, time.Now())), true
	}
	return 0, false
}

// judge turns what is no answer of the API into an error.
func (g *guard) judge(r *http.Request, resp *http.Response, err error) (*http.Response, error) {
	if err != nil {
		return nil, newCallFault(err)
	}
	wantsJSON := r.Header.Get("Accept") == "application/json"
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		defer discard(resp)
		return nil, g.redirected(resp)
	case resp.StatusCode < 300 && wantsJSON && isHTML(resp.Header):
		defer discard(resp)
		return nil, &callFault{reason: "the workspace answered with an HTML page instead of JSON", header: resp.Header}
	case wantsJSON:
		resp.Body = &limitedBody{ReadCloser: resp.Body, left: maxJSON}
	}
	return resp, nil
}

// redirected tells a way to the sign-in page, which means that the token does not count, from any other redirect.
func (g *guard) redirected(resp *http.Response) *callFault {
	f := &callFault{reason: fmt.Sprintf("the workspace answered %d, a redirect, which is not followed", resp.StatusCode), header: resp.Header}
	to, err := g.host.Parse(resp.Header.Get("Location"))
	if err != nil {
		return f
	}
	path := strings.ToLower(to.Path)
	switch {
	case strings.Contains(to.RawQuery, "private-link-validation-error"):
		f.reason = "the workspace is reachable over its private link only (it redirects to a page that says so)"
	case strings.Contains(path, "/login"), strings.Contains(path, "/signin"), strings.Contains(path, "/authorize"):
		f.reason, f.signIn = "the workspace redirects to its sign-in page instead of answering", true
	}
	return f
}

func isHTML(h http.Header) bool {
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return mediaType == "text/html" || mediaType == "application/xhtml+xml"
}

// discard reads a little so that the connection can be used again.
func discard(resp *http.Response) {
	if resp != nil {
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
		_ = resp.Body.Close()
	}
}

type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, &callFault{reason: "the workspace's answer is over 32 MiB"}
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
