package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/databricks/databricks-sdk-go/apierr"

	"github.com/obo-relay/obo-relay/relay"
)

// callFault is why there is no answer of the API. Its reason holds nothing that the other side wrote.
type callFault struct {
	reason string
	signIn bool
	unsent bool        // the workspace has not seen the call
	header http.Header // of the answer that was none
	err    error       // only ever context.Canceled or context.DeadlineExceeded
}

func (f *callFault) Error() string { return f.reason }
func (f *callFault) Unwrap() error { return f.err }

func newCallFault(err error) *callFault {
	if f, ok := errors.AsType[*callFault](err); ok {
		return f
	}
	_, noName := errors.AsType[*net.DNSError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	timeout, isNet := errors.AsType[net.Error](err)
	op, isOp := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, context.Canceled):
		return &callFault{reason: "the workspace gave no sign of life in time", err: context.Canceled}
	case errors.Is(err, context.DeadlineExceeded):
		return &callFault{reason: "the workspace did not answer in time", err: context.DeadlineExceeded}
	case noName:
		return &callFault{reason: "the workspace's host name cannot be resolved", unsent: true}
	case untrusted:
		return &callFault{reason: "the workspace's TLS certificate is not trusted", unsent: true}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &callFault{reason: "the workspace's host refused the connection", unsent: true}
	case isNet && timeout.Timeout():
		return &callFault{reason: "the workspace's host did not respond in time", unsent: isOp && op.Op == "dial"}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &callFault{reason: "the connection to the workspace broke off"}
	}
	return &callFault{reason: "the workspace cannot be reached, or does not speak HTTP"}
}

// workspaceFault turns what the SDK returned into an error of the table. Texts of the SDK and of the workspace are never
// passed on: they may quote what they were sent.
func workspaceFault(ctx context.Context, token relay.Token, err error) *relay.Error {
	if e, ok := errors.AsType[*relay.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*apierr.APIError](err); ok {
		return apiFault(token, e)
	}
	if ctx.Err() != nil {
		return callerLeft(ctx.Err())
	}
	f, ok := errors.AsType[*callFault](err)
	if !ok {
		return relay.NewError(relay.CodeWorkspaceDown, "the workspace's answer cannot be read")
	}
	code := relay.CodeWorkspaceDown
	if f.signIn {
		code = relay.CodeTokenRejected
	}
	return relay.NewError(code, f.reason+workspaceRequest(token, f.header))
}

// tokenFault are words of the workspace's own for a token that does not count, where the status alone does not say so:
// 403 "Invalid access token.", 400 "Invalid Token", and 400 for a token of another audience.
var tokenFault = regexp.MustCompile(`(?i)\b(invalid|expired|malformed) (access )?token\b|\btoken (is |has )?(invalid|expired|malformed)\b|IncorrectClaimException`)

func apiFault(token relay.Token, e *apierr.APIError) *relay.Error {
	var header http.Header
	if e.ResponseWrapper != nil && e.ResponseWrapper.Response != nil {
		header = e.ResponseWrapper.Response.Header
	}
	return answerFault(token, e.StatusCode, e.Message, header)
}

// answerFault tells apart why the workspace says no.
func answerFault(token relay.Token, status int, message string, header http.Header) *relay.Error {
	request := workspaceRequest(token, header)
	switch {
	case status == http.StatusUnauthorized:
		return relay.NewError(relay.CodeTokenRejected, "the workspace answered 401"+request)
	case isHTML(header):
		return relay.Errorf(relay.CodeWorkspaceDown, "the workspace answered %d with an HTML page%s", status, request)
	case (status == http.StatusForbidden || status == http.StatusBadRequest) && tokenFault.MatchString(message):
		return relay.Errorf(relay.CodeTokenRejected, "the workspace answered %d and names the token as the reason%s", status, request)
	case status == http.StatusForbidden:
		if scopes, missing := missingScopes(token, message, header); missing {
			return relay.NewError(relay.CodeScopeMissing, "the workspace answered 403: the token lacks "+scopes+request)
		}
		return relay.NewError(relay.CodeForbidden, "the workspace answered 403"+request)
	}
	code := relay.CodeWorkspaceDown
	if status == http.StatusTooManyRequests {
		code = relay.CodeRateLimited
	}
	fault := relay.Errorf(code, "the workspace answered %d%s", status, request)
	fault.After = parseRetryAfter(header, time.Now())
	return fault
}

var (
	scopeFault = regexp.MustCompile(`(?i)insufficient[_ ]scope|(required|missing|lacks?|needs?)( the)?( oauth)? scopes?`)
	scopeList  = regexp.MustCompile(`(?i)\bscopes?"?( is| are)?[:=] *"?([a-z0-9._:/ ,-]+)`)
	scopeName  = regexp.MustCompile(`^[a-z][a-z0-9-]*([.:/][a-z0-9-]+)*$`)
)

// missingScopes reports whether a 403 is about scopes, and names those that it names. The forms are "Provided OAuth token
// does not have required scopes: sql" and RFC 6750 §3.1.
func missingScopes(token relay.Token, message string, header http.Header) (string, bool) {
	text := message + "\n" + header.Get("WWW-Authenticate")
	if !scopeFault.MatchString(text) {
		return "", false
	}
	var names []string
	if found := scopeList.FindStringSubmatch(text); found != nil {
		for _, name := range strings.FieldsFunc(found[2], func(c rune) bool { return c == ' ' || c == ',' }) {
			if len(names) == 5 || len(name) > 64 || !scopeName.MatchString(name) || echoes(token, name) {
				break
			}
			names = append(names, name)
		}
	}
	switch len(names) {
	case 0:
		return "a scope", true
	case 1:
		return "the scope " + names[0], true
	}
	return "one of the scopes " + strings.Join(names, ", "), true
}

var workspaceRequestID = regexp.MustCompile(`^[0-9A-Za-z-]{8,64}$`)

// workspaceRequest is the workspace's own id of a call, for its support.
func workspaceRequest(token relay.Token, header http.Header) string {
	for _, name := range []string{"X-Databricks-Request-Id", "X-Request-Id"} {
		if id := header.Get(name); workspaceRequestID.MatchString(id) && !echoes(token, id) {
			return " (workspace request " + id + ")"
		}
	}
	return ""
}

// echoes reports whether a word from outside is part of the token, or holds it or a part that is its own: the first of a JWT's
// (RFC 7515 section 7.1) is nearly everybody's.
func echoes(token relay.Token, word string) bool {
	value := token.Reveal()
	if value == "" {
		return false
	}
	own := func(part string) bool { return len(part) >= 8 && strings.Contains(word, part) }
	return strings.Contains(word, value) || len(word) >= 8 && strings.Contains(value, word) || slices.ContainsFunc(strings.Split(value, ".")[1:], own)
}

// parseRetryAfter reads seconds or a date (RFC 9110 §10.2.3), at most a day; 0 = not said.
func parseRetryAfter(header http.Header, now time.Time) time.Duration {
	const most = 24 * time.Hour
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, most)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), most)
	}
	return 0
}
