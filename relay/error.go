package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Error is a failure of the relay: a code of the table, and what happened this time. Detail never holds a secret, a
// payload or anything a sender wrote that was not checked first.
type Error struct {
	Code      Code
	Detail    string
	RequestID string        // empty before a request has an id
	After     time.Duration // when a retry may help; 0 = not said
	Outcome   Outcome       // what is known of the request; empty = what the table says of the code
	Remote    bool          // said by the worker in a sealed frame
	Err       error         // the cause, for errors.Is and logs on this side only; never sent
}

// NewError returns an Error with a detail.
func NewError(code Code, detail string) *Error { return &Error{Code: code, Detail: detail} }

// Errorf returns an Error with a formatted detail.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}

// Wrap returns an Error with a cause, whose text becomes part of this side's message but is never sent.
func Wrap(code Code, err error, detail string) *Error {
	return &Error{Code: code, Detail: detail, Err: err}
}

func (e *Error) Error() string {
	s := string(e.Code) + ": " + e.Detail
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.RequestID != "" {
		s += " (request " + e.RequestID + ")"
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, relay.CodeNoWorker) work. A timeout is also context.DeadlineExceeded, as net/http's are, whoever
// noticed first that the time is over.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && e.Code == code || target == context.DeadlineExceeded && e.Timeout()
}

// Timeout makes os.IsTimeout and url.Error.Timeout work.
func (e *Error) Timeout() bool { return e.Code == CodeTimeout }

// Problem is the form in which an Error reaches the other side and HTTP callers (RFC 9457).
func (e *Error) Problem() *Problem {
	info := e.Code.Info()
	return &Problem{
		Type: problemType + string(e.Code), Title: info.Title, Status: info.Status, Detail: e.Detail + remedy(info),
		Code: e.Code, Outcome: cmp.Or(e.Outcome, info.Outcome), RequestID: e.RequestID, RetryAfterMS: min(e.After, maxRetryAfter).Milliseconds(),
	}
}

func remedy(info CodeInfo) string {
	if info.Remedy == "" {
		return ""
	}
	return ". " + info.Remedy
}

// AsError returns err as an *Error, as an internal one if it is none.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Wrap(CodeInternal, err, "unexpected failure")
}

// ProblemTypeName is the type constant of Problem.
const ProblemTypeName = "obo.v1.problem"

const maxRetryAfter = time.Hour

const problemType = "https://github.com/obo-relay/obo-relay/blob/main/relay/PROTOCOL.md#"

// Problem is an RFC 9457 problem document. HTTP callers get it as application/problem+json.
type Problem struct {
	Type         string  `json:"type"`
	Title        string  `json:"title"`
	Status       int     `json:"status"`
	Detail       string  `json:"detail"`
	Code         Code    `json:"code"`
	Outcome      Outcome `json:"outcome"`
	RequestID    string  `json:"request_id,omitzero"`
	RetryAfterMS int64   `json:"retry_after_ms,omitzero"`
}

// Err is the Error that a problem from the peer stands for. The title, status and outcome are looked up in our own table
// again, so that a code means one thing on both sides.
func (p *Problem) Err() *Error {
	after := time.Duration(min(max(p.RetryAfterMS, 0), maxRetryAfter.Milliseconds())) * time.Millisecond
	detail := strings.TrimSuffix(p.Detail, remedy(p.Code.Info())) // Problem appends it again
	return &Error{Code: p.Code.formed(), Detail: detail, RequestID: p.RequestID, After: after, Remote: true}
}
