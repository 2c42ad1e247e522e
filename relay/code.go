package relay

import (
	"slices"
	"strings"
)

// Outcome is what a publisher knows about a request that has ended (PROTOCOL.md §10).
type Outcome string

// The four outcomes.
const (
	NotDelivered Outcome = "not_delivered" // it was never published
	NotStarted   Outcome = "not_started"   // a sealed refusal says that no handler saw it
	Done         Outcome = "done"          // a sealed reply of the handler
	Unknown      Outcome = "unknown"       // it may have been executed
)

// Code names one kind of failure. It is an error, so that errors.Is(err, relay.CodeNoWorker) works.
type Code string

func (c Code) Error() string { return string(c) }

// The codes. Their meaning is in the table below and, the same, in PROTOCOL.md §12.
const (
	CodeTokenMissing       Code = "token_missing"
	CodeTokenAmbiguous     Code = "token_ambiguous"
	CodeTokenMalformed     Code = "token_malformed"
	CodeTokenOpaque        Code = "token_opaque"
	CodeTokenExpired       Code = "token_expired"
	CodeTokenRejected      Code = "token_rejected"
	CodeScopeMissing       Code = "scope_missing"
	CodeForbidden          Code = "forbidden"
	CodeNotFound           Code = "not_found"
	CodeRateLimited        Code = "rate_limited"
	CodeBadRequest         Code = "bad_request"
	CodePathNotCanonical   Code = "path_not_canonical"
	CodeUpgradeUnsupported Code = "upgrade_unsupported"
	CodeHeadTooLarge       Code = "head_too_large"
	CodeBodyTooLarge       Code = "body_too_large"
	CodeServiceUnknown     Code = "service_unknown"
	CodeBrowserRefused     Code = "browser_refused"
	CodeNoWorker           Code = "no_worker"
	CodeWorkerUntrusted    Code = "worker_untrusted"
	CodeClockSkew          Code = "clock_skew"
	CodeNATSUnavailable    Code = "nats_unavailable"
	CodeNATSDenied         Code = "nats_denied"
	CodePublisherBusy      Code = "publisher_busy"
	CodePublisherDraining  Code = "publisher_draining"
	CodeOverloaded         Code = "overloaded"
	CodeWorkerDraining     Code = "worker_draining"
	CodeAuditDown          Code = "audit_unavailable"
	CodeWorkspaceDown      Code = "workspace_unavailable"
	CodeWorkspaceFailed    Code = "workspace_failed"
	CodeStatementFailed    Code = "statement_failed"
	CodeUpstreamDown       Code = "upstream_unreachable"
	CodeUpstreamFailed     Code = "upstream_failed"
	CodeTimeout            Code = "timeout"
	CodeHandlerFailed      Code = "handler_failed"
	CodeRefused            Code = "refused"
	CodeReplayFull         Code = "replay_full"
	CodeGrantUnknown       Code = "grant_unknown"
	CodeRefusedUnverified  Code = "refused_unverified"
	CodeOutcomeUnknown     Code = "outcome_unknown"
	CodeStreamBroken       Code = "stream_broken"
	CodeCanceled           Code = "canceled"
	CodeNotConfigured      Code = "not_configured"
	CodeInternal           Code = "internal"
)

// CodeInfo is one row of the table of failures.
type CodeInfo struct {
	Code      Code
	Status    int     // HTTP status for the caller
	Outcome   Outcome // what the publisher knows when it reports this code
	Elsewhere bool    // after this refusal any request may be tried at another instance
	Title     string  // what happened, in a few words
	Remedy    string  // what to do, for the person who reads it
}

// codes is read only.
var codes = []CodeInfo{
	{CodeTokenMissing, 401, NotDelivered, false, "No access token", "Pass on the X-Forwarded-Access-Token header that the platform gave the UI app; if it has none, switch on user authorization for the app"},
	{CodeTokenAmbiguous, 400, NotDelivered, false, "More than one access token", "Send one token, in X-Forwarded-Access-Token or in Authorization"},
	{CodeTokenMalformed, 401, NotDelivered, false, "The access token is malformed", "Pass the token on unchanged"},
	{CodeTokenOpaque, 401, NotDelivered, false, "The access token is not a JWT", "Use the person's OAuth token; personal access tokens need --opaque-tokens on publisher and worker"},
	{CodeTokenExpired, 401, NotDelivered, false, "The access token has expired", "Reload the page: the platform hands out a fresh token with each page load"},
	{CodeTokenRejected, 401, NotStarted, false, "The workspace rejected the access token", "Reload the page to sign in again; the token may be revoked or of another workspace"},
	{CodeScopeMissing, 403, NotStarted, false, "The access token lacks a scope", "Add the scope to the UI app's user authorization and sign in again"},
	{CodeForbidden, 403, NotStarted, false, "This person may not do that", "Ask the owner of the service for access"},
	{CodeNotFound, 404, NotStarted, false, "There is no such thing", "Check the name or id; things that a person may not see do not exist for them"},
	{CodeRateLimited, 429, NotStarted, false, "The workspace limits the rate of requests", "Try again after the time that Retry-After names"},
	{CodeBadRequest, 400, NotDelivered, false, "The request is malformed", "Correct the request"},
	{CodePathNotCanonical, 400, NotDelivered, false, "The path is not canonical", "Send a path without empty, dot or encoded-slash segments (PROTOCOL.md section 9)"},
	{CodeUpgradeUnsupported, 501, NotDelivered, false, "Upgrade is not supported", "Use server-sent events or a streamed response instead of WebSockets"},
	{CodeHeadTooLarge, 413, NotDelivered, false, "URL and headers are too large", "Send fewer or shorter headers, or move the data into the body"},
	{CodeBodyTooLarge, 413, NotDelivered, false, "The body is too large", "Send a smaller body, or raise --max-body"},
	{CodeServiceUnknown, 404, NotDelivered, false, "Unknown service", "Use a service that the publisher's trust file names, or add it there"},
	{CodeBrowserRefused, 403, NotDelivered, false, "Browsers may not call the sidecar", "Call it from the app's server code"},
	{CodeNoWorker, 503, NotDelivered, false, "No worker is ready", "Start obo-worker for this service, or look at its log: it announces itself every 5 s"},
	{CodeWorkerUntrusted, 503, NotDelivered, false, "Workers announce themselves with a key that is not trusted", "Put the service's public key into the publisher's trust file"},
	{CodeClockSkew, 503, NotDelivered, false, "The clocks differ too much", "Set the clocks of both machines (NTP); 30 s are allowed"},
	{CodeNATSUnavailable, 503, NotDelivered, false, "Not connected to NATS", "Try again; the publisher reconnects by itself. If it lasts, look at the NATS server and the --nats URL"},
	{CodeNATSDenied, 503, Unknown, false, "The NATS server denies the subject", "Grant the app's NATS user the subjects that obo init generates, or correct the user or --subject-prefix"},
	{CodePublisherBusy, 503, NotDelivered, false, "Too many requests under way at the publisher", "Try again later, or raise --max-in-flight"},
	{CodePublisherDraining, 503, NotDelivered, false, "The publisher is shutting down", "Try again"},
	{CodeOverloaded, 503, NotStarted, true, "The worker is at its limit", "Try again later, start more workers, or raise --max-in-flight"},
	{CodeWorkerDraining, 503, NotStarted, true, "The worker is shutting down", "Try again"},
	{CodeAuditDown, 503, NotStarted, true, "The worker cannot keep an audit record", "Try again; if it lasts, look at the worker's log: it says where the records should go, and what to do"},
	{CodeWorkspaceDown, 502, NotStarted, true, "The workspace cannot be asked who this person is", "Try again; if it lasts, look at the worker's log and its --workspace URL"},
	{CodeWorkspaceFailed, 502, Unknown, false, "The workspace broke off or failed", "It may have acted on the request: check before you repeat what changes something"},
	{CodeStatementFailed, 422, Done, false, "The workspace did not complete the statement", "Correct the statement or its parameters"},
	{CodeUpstreamDown, 502, NotStarted, true, "The middleware app cannot be reached", "Start the app, or correct the worker's --forward URL"},
	{CodeUpstreamFailed, 502, Unknown, false, "The middleware app broke off", "Look at the app's log; it may have acted on the request"},
	{CodeTimeout, 504, Unknown, false, "No answer within the time limit", "It may still have been executed. Raise --timeout if the service needs longer"},
	{CodeHandlerFailed, 500, Unknown, false, "The handler failed", "Look at the worker's log for the request id"},
	{CodeRefused, 502, Unknown, false, "The worker refused the message", "Look at the worker's log for the request id"},
	{CodeReplayFull, 503, Unknown, false, "The worker's replay cache is full", "Try again in a minute, or start more workers"},
	{CodeGrantUnknown, 502, Unknown, false, "The worker does not keep the grant", "Nothing: the publisher sends it again by itself"},
	{CodeRefusedUnverified, 502, Unknown, false, "Refused, by someone who could not prove to be the worker", "Look for the request id in the worker's log. Likely causes: the worker's trust file lacks this app's key, it has just restarted, or the clocks differ"},
	{CodeOutcomeUnknown, 504, Unknown, false, "The worker fell silent", "The request may have been executed: check before you repeat it, or send an Idempotency-Key"},
	{CodeStreamBroken, 502, Unknown, false, "The stream broke off", "Try again if the request is safe to repeat"},
	{CodeCanceled, 499, Unknown, false, "The caller left", ""},
	{CodeNotConfigured, 503, NotDelivered, false, "The relay is not configured", "Look at the publisher's log: it names each fault and its remedy"},
	{CodeInternal, 500, Unknown, false, "Internal error", "Look at the log for the request id and report it"},
}

// Codes returns the table of failures, in the order of PROTOCOL.md §12.
func Codes() []CodeInfo { return slices.Clone(codes) }

// Known reports whether the code is in the table.
func (c Code) Known() bool {
	return slices.ContainsFunc(codes, func(row CodeInfo) bool { return row.Code == c })
}

// formed is the code, or CodeInternal for what is not in the form of one: 1 to 64 characters, a to z and _, the first a letter.
func (c Code) formed() Code {
	if c == "" || len(c) > 64 || c[0] == '_' || strings.Trim(string(c), "abcdefghijklmnopqrstuvwxyz_") != "" {
		return CodeInternal
	}
	return c
}

// Info returns the code's row; a code that is not in the table (from a newer peer) gets the row of CodeInternal under its
// own name.
func (c Code) Info() CodeInfo {
	for _, row := range codes {
		if row.Code == c {
			return row
		}
	}
	row := codes[len(codes)-1]
	row.Code = c
	return row
}
