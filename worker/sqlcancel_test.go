package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
)

func isIn(state sandbox.StatementState) func([]sandbox.Statement) bool {
	return func(all []sandbox.Statement) bool { return len(all) == 1 && all[0].State == state }
}

func TestSQLCallerWhoLeavesCancels(t *testing.T) {
	for _, text := range []string{"SELECT stuck()", "SELECT queued(1000)"} {
		s := newStage(t, nil)
		s.ws.Faults.Add(sandbox.Fault{Path: statements + "/", Method: "POST", Status: 503, Times: 2}) // the cancel is tried again
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan answer, 1)
		r := s.request("POST", "/.obo/sql", s.token(alice, sandbox.TokenOptions{}), statement(text)).WithContext(ctx)
		go func() { done <- s.do(r) }()
		_, err := s.ws.AwaitStatements(t.Context(), func(all []sandbox.Statement) bool { return len(all) == 1 })
		relaytest.Must(t, err)
		leave()
		if a := <-done; a.err == nil {
			t.Errorf("%+v", a)
		}
		all, err := s.ws.AwaitStatements(t.Context(), isIn(sandbox.StateCanceled))
		if err != nil || all[0].Principal != alice {
			t.Errorf("%+v, %v", all, err)
		}
		s.onlyThePerson()
	}
}

func TestSQLDeadlineCancels(t *testing.T) {
	s := newStage(t, nil)
	a := s.sql(alice, statement("SELECT stuck()"), relay.HeaderTimeout, "1")
	if code := a.code(t); code != relay.CodeTimeout {
		t.Errorf("%s: %s", code, a.text())
	}
	if _, err := s.ws.AwaitStatements(t.Context(), isIn(sandbox.StateCanceled)); err != nil {
		t.Error(err)
	}
	s.onlyThePerson()
}

// A statement whose caller leaves before the workspace has told its id is canceled all the same.
func TestSQLCallerWhoLeavesEarlyCancels(t *testing.T) {
	s := newStage(t, nil)
	s.ws.Faults.Add(sandbox.Fault{Path: statements, Method: "POST", Times: 1, Delay: 300 * time.Millisecond})
	a := s.sql(alice, statement("SELECT stuck()"), relay.HeaderTimeout, "0.05")
	if a.err == nil {
		t.Errorf("%+v", a)
	}
	if _, err := s.ws.AwaitStatements(t.Context(), isIn(sandbox.StateCanceled)); err != nil {
		t.Error(err)
	}
}

// A statement of which the workspace says nothing that is known here has not ended: it is canceled, and not told as done.
func TestSQLUnknownStateIsNoEnd(t *testing.T) {
	for _, body := range []string{`{}`, `{"status":{"state":"QUEUED"}}`} {
		s := newStage(t, nil)
		s.ws.Faults.Add(sandbox.Fault{Path: statements + "/", Method: "GET", Status: 200, Body: body})
		if a := s.sql(alice, statement("SELECT stuck()")); a.code(t) != relay.CodeWorkspaceFailed || a.err == nil {
			t.Errorf("%s: %+v", body, a)
		}
		if _, err := s.ws.AwaitStatements(t.Context(), isIn(sandbox.StateCanceled)); err != nil {
			t.Error(body, err)
		}
	}
}
