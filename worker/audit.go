package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// AuditTypeName is the type constant of AuditRecord.
const AuditTypeName = "obo.v1.audit"

// AuditRecord says who asked for what, and what came of it. It holds no token, query or body. There is one for each
// request that an app's signature vouches for, or that came to the front door, written when the request has ended. Where
// requests must not be served without (Config.AuditRequired), one more is written before an allowed request is served.
type AuditRecord struct {
	Type       string     `json:"type"`
	Event      string     `json:"event"`           // AuditStarted or AuditEnded
	Time       time.Time  `json:"time"`            // when the request came, UTC
	RequestID  string     `json:"request_id"`      // the relay's
	Via        string     `json:"via"`             // AuditRelay or AuditFront
	App        string     `json:"app,omitzero"`    // who sent it, proved by its signature; empty at the front door
	Service    string     `json:"service"`         //
	Instance   string     `json:"instance"`        //
	User       *AuditUser `json:"user,omitzero"`   // nil if nobody looked them up
	Method     string     `json:"method,omitzero"` // empty if it is malformed
	Path       string     `json:"path,omitzero"`   // without query; empty if it is malformed
	Decision   string     `json:"decision"`        // AuditAllowed, AuditDenied or AuditRefused
	Rule       string     `json:"rule,omitzero"`   // match of the policy's rule that decided; empty if none did
	Status     int        `json:"status,omitzero"` // of the reply; 0: none
	Code       relay.Code `json:"code,omitzero"`   // of the relay's table; empty for the handler's own reply
	DurationMS int64      `json:"duration_ms"`     // to the end of the reply
	BytesIn    int64      `json:"bytes_in"`        // of the request's body that were read; all of one that came with the head
	BytesOut   int64      `json:"bytes_out"`       // of the reply's body
}

// AuditUser is the person, as the workspace named them.
type AuditUser struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

// Values of an AuditRecord.
const (
	AuditStarted = "started"
	AuditEnded   = "ended"

	AuditRelay = "relay"
	AuditFront = "front"

	AuditAllowed = "allowed" // it was handed to the handler
	AuditDenied  = "denied"  // by the policy
	AuditRefused = "refused" // for any other reason
)

// Auditor keeps audit records. It may be called by many goroutines, and returns when the record is kept.
type Auditor interface {
	Audit(ctx context.Context, r *AuditRecord) error
}

// Auditors keeps each record in several places, and fails if one of them does.
func Auditors(to ...Auditor) Auditor { return auditors(to) }

type auditors []Auditor

func (a auditors) Audit(ctx context.Context, r *AuditRecord) error {
	var faults []error
	for _, one := range a {
		faults = append(faults, one.Audit(ctx, r))
	}
	return errors.Join(faults...)
}

// AuditTo writes one line of JSON for each record, each in one call of Write: for standard output.
func AuditTo(w io.Writer) Auditor { return &auditWriter{w: w} }

type auditWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (a *auditWriter) Audit(_ context.Context, r *AuditRecord) error {
	line, err := auditLine(r)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err = a.w.Write(line)
	return err
}

func auditLine(r *AuditRecord) ([]byte, error) {
	b, err := json.Marshal(r)
	return append(b, '\n'), err
}

// auditTimeout is how long one record may take.
const auditTimeout = 5 * time.Second

// auditTrail is the worker's use of an Auditor.
type auditTrail struct {
	to                Auditor // nil: none
	required          bool
	log               *slog.Logger
	service, instance string

	failing  atomic.Bool // the last record could not be kept
	failures atomic.Uint64
}

// keep has a record kept, and notes whether it is.
func (t *auditTrail) keep(ctx context.Context, r *AuditRecord) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout) // a caller that leaves is no fault of the auditor
	defer cancel()
	err := t.to.Audit(ctx, r)
	t.failing.Store(err != nil)
	if err != nil {
		t.failures.Add(1)
	}
	return err
}

// refuses reports whether requests are refused because records cannot be kept, as of the last one.
func (t *auditTrail) refuses() bool { return t.required && t.failing.Load() }

// record begins the record of a request. What its sender wrote is taken only where it is of the right form.
func (t *auditTrail) record(id relay.ID, via, method, path string, at time.Time) *AuditRecord {
	r := &AuditRecord{
		Type: AuditTypeName, Event: AuditEnded, Time: at.UTC().Truncate(time.Millisecond), RequestID: id.String(), Via: via,
		Service: t.service, Instance: t.instance, Decision: AuditRefused,
	}
	if relay.ValidMethod(method) {
		r.Method = method
	}
	if relay.CheckPath(path) == nil {
		r.Path = path
	}
	return r
}

// judged notes the gate's verdict.
func (r *AuditRecord) judged(v verdict) {
	r.Rule = v.rule
	if v.user != nil {
		r.User = &AuditUser{Name: v.user.UserName, ID: v.user.ID}
	}
	switch {
	case v.denied:
		r.Decision = AuditDenied
	case v.refusal == nil:
		r.Decision = AuditAllowed
	}
}

// start keeps a record before an allowed request is served, where that is required, and refuses the request if it cannot.
func (t *auditTrail) start(ctx context.Context, r *AuditRecord) *relay.Error {
	if t.to == nil || !t.required {
		return nil
	}
	c := *r
	c.Event = AuditStarted
	if err := t.keep(ctx, &c); err != nil {
		r.Decision = AuditRefused
		t.log.Error("REFUSED, since no audit record can be kept", "request_id", r.RequestID, "error", err)
		return &relay.Error{Code: relay.CodeAuditDown, Detail: "this worker serves nothing of which it cannot keep a record", After: time.Second}
	}
	return nil
}

// end keeps the record of a request that has ended. If it cannot, the log has to do.
func (t *auditTrail) end(r *AuditRecord) {
	if t.to == nil {
		return
	}
	if err := t.keep(context.Background(), r); err != nil {
		line, _ := json.Marshal(r) // of plain fields
		t.log.Error("AUDIT RECORD LOST, this line is all that is left of it", "request_id", r.RequestID, "record", string(line), "error", err)
	}
}

// ended notes what came of the request.
func (r *AuditRecord) ended(status int, code relay.Code, took time.Duration, in, out int64) {
	r.Status, r.Code, r.DurationMS, r.BytesIn, r.BytesOut = status, code, took.Milliseconds(), in, out
}

// counted counts the bytes that are read of a body.
func counted(body io.ReadCloser, n *atomic.Int64) io.ReadCloser {
	if body == nil || body == http.NoBody { // known to net/http's client by its identity
		return body
	}
	return &countedBody{body, n}
}

type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}
