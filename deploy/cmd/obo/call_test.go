package main

import (
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

// What is known of this request counts, where it is more than what the table says of the code.
func TestCallTellsTheRequestsOwnOutcome(t *testing.T) {
	e := relay.NewError(relay.CodeBodyTooLarge, "half of it was read")
	for outcome, want := range map[relay.Outcome]string{"": "not_delivered", relay.Unknown: "unknown", relay.NotStarted: "not_started"} {
		e.Outcome = outcome
		if got := withRemedy(e, relay.ConnectConfig{}).Error(); !strings.Contains(got, "what the caller knows: "+want+"\n") {
			t.Errorf("outcome %q: %s", outcome, got)
		}
	}
}
