package sandbox

import (
	"context"
	"slices"
	"sync"
	"time"
)

// StatementState is a state of the SQL Statement Execution API.
type StatementState string

// The states. A statement ends in one of the last four; a success becomes
// closed when its result is gone.
const (
	StatePending   StatementState = "PENDING"
	StateRunning   StatementState = "RUNNING"
	StateSucceeded StatementState = "SUCCEEDED"
	StateFailed    StatementState = "FAILED"
	StateCanceled  StatementState = "CANCELED"
	StateClosed    StatementState = "CLOSED"
)

// Statement is a SQL statement that was submitted.
type Statement struct {
	ID        string
	Principal string
	Text      string
	State     StatementState
}

// statement runs without a goroutine: its state follows from the clock.
type statement struct {
	id, principal string
	request       sqlRequest
	query         query
	end           time.Time     // when it ends by itself, on the real clock
	submitted     time.Time     // on the workspace's clock
	canceled      chan struct{} // closed when canceled; guarded by statements.mu
}

// wait reports whether the statement ended within the time.
func (s *statement) wait(ctx context.Context, most time.Duration) bool {
	left := time.Until(s.end)
	timer := time.NewTimer(min(most, left))
	defer timer.Stop()
	select {
	case <-timer.C:
		return left <= most
	case <-s.canceled:
		return true
	case <-ctx.Done():
		return false
	}
}

const (
	maxStatements = 1000
	resultLife    = time.Hour
)

// statements are those submitted, the oldest first.
type statements struct {
	now       func() time.Time
	chunkRows int

	mu      sync.Mutex
	list    []*statement  // guarded by mu
	changed chan struct{} // closed and replaced at each change; guarded by mu
}

func newStatements(now func() time.Time, chunkRows int) *statements {
	return &statements{now: now, chunkRows: chunkRows, changed: make(chan struct{})}
}

func (l *statements) submit(req sqlRequest, principal string, q query) *statement {
	if req.RowLimit > 0 && q.rows > req.RowLimit {
		q.rows = req.RowLimit
	} else {
		req.RowLimit = 0 // had no effect: not truncated
	}
	s := &statement{
		id: newUUID(), principal: principal, request: req, query: q,
		end: time.Now().Add(q.takes), submitted: l.now(), canceled: make(chan struct{}),
	}
	s.query.chunkRows = l.chunkRows
	if s.query.fault == nil && req.Disposition == inline && s.overInlineLimit() {
		s.query.fault = &sqlFault{"BAD_REQUEST", "", inlineLimitMessage}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) == maxStatements {
		l.list = slices.Delete(l.list, 0, 1)
	}
	l.list = append(l.list, s)
	l.announce()
	return s
}

// announce wakes those who wait for a change; the caller holds mu.
func (l *statements) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *statements) get(id string) *statement {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.list {
		if s.id == id {
			return s
		}
	}
	return nil
}

// cancel has no effect on a statement that has ended.
func (l *statements) cancel(s *statement) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.stateLocked(s) {
	case StatePending, StateRunning:
		close(s.canceled)
		l.announce()
	}
}

func (l *statements) state(s *statement) StatementState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stateLocked(s)
}

func (l *statements) stateLocked(s *statement) StatementState {
	select {
	case <-s.canceled:
		return StateCanceled
	default:
	}
	switch {
	case time.Now().Before(s.end) && s.query.queued:
		return StatePending
	case time.Now().Before(s.end):
		return StateRunning
	case s.query.fault != nil:
		return StateFailed
	case l.now().Sub(s.submitted) > resultLife:
		return StateClosed
	}
	return StateSucceeded
}

func (l *statements) snapshot() (all []Statement, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.list {
		all = append(all, Statement{ID: s.id, Principal: s.principal, Text: s.request.Statement, State: l.stateLocked(s)})
	}
	return all, l.changed
}

// Statements lists the SQL statements submitted so far, at most the last 1000.
func (w *Workspace) Statements() []Statement {
	all, _ := w.statements.snapshot()
	return all
}

// AwaitStatements returns the statements once they are as wanted; it looks again
// when one was submitted or canceled.
func (w *Workspace) AwaitStatements(ctx context.Context, wanted func([]Statement) bool) ([]Statement, error) {
	for {
		all, changed := w.statements.snapshot()
		if wanted(all) {
			return all, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return all, ctx.Err()
		}
	}
}
