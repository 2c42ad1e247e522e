package publisher

import (
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

// What is told of a request is never less than one of its attempts may have done: that a later one did not leave says nothing of
// an earlier one, whatever the method.
func TestAttemptThatNeverLeftHidesNoOtherOne(t *testing.T) {
	failed := func(code relay.Code, outcome relay.Outcome) *failure {
		e := relay.NewError(code, "")
		e.Outcome = outcome
		return &failure{e, outcome}
	}
	silent := failed(relay.CodeOutcomeUnknown, relay.Unknown)
	for _, method := range []string{"GET", "POST"} {
		c := &call{head: relay.RequestHead{Method: method}}
		for _, later := range []*failure{failed(relay.CodeNATSUnavailable, relay.NotDelivered), failed(relay.CodeCanceled, relay.NotDelivered)} {
			if got := later.after(silent, c); got.error.Problem().Outcome != relay.Unknown {
				t.Errorf("%s: %s after an attempt that may have been executed: %s", method, later.error.Code, got.error.Problem().Outcome)
			}
		}
	}
	refused := failed(relay.CodeOverloaded, relay.NotStarted)
	if got := refused.after(silent, &call{head: relay.RequestHead{Method: "GET"}}); got != refused {
		t.Errorf("what a worker says of a safe request is not told: %v", got.error)
	}
}
