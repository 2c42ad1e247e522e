package worker

import (
	"encoding/json"
	"net/http"

	"github.com/obo-relay/obo-relay/relay"
)

// refuse ends a request for which nothing was done.
func refuse(w http.ResponseWriter, e *relay.Error) { end(w, e, false) }

// end puts an error in the place of a reply of which nothing has been written. acted says that the workspace may have done
// something already; a code that stands for the opposite then becomes workspace_failed, with what happened as its detail.
func end(w http.ResponseWriter, e *relay.Error, acted bool) {
	if acted && e.Code.Info().Outcome != relay.Unknown {
		e = &relay.Error{Code: relay.CodeWorkspaceFailed, Detail: "after the request had reached the workspace: " + e.Detail, After: e.After}
	}
	if r, ok := relayed(w); ok {
		_ = r.end(e, acted) // the stream's own failure, if any, is logged where the request ends
		return
	}
	problem := e.Problem()
	problem.Outcome = relay.NotStarted
	if acted {
		problem.Outcome = relay.Unknown
	}
	writeProblem(w, problem)
}

// breakOff ends a reply of which something has been written so that it cannot be taken for whole.
func breakOff(w http.ResponseWriter, e *relay.Error) {
	if r, ok := relayed(w); ok {
		_ = r.end(e, true)
		return
	}
	panic(http.ErrAbortHandler)
}

// reply answers with a problem that is the outcome of the request: it was done, and this came of it.
func reply(w http.ResponseWriter, e *relay.Error) {
	problem := e.Problem()
	problem.Outcome = relay.Done
	writeProblem(w, problem)
}

func writeProblem(w http.ResponseWriter, problem *relay.Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(problem.Status)
	_ = json.NewEncoder(w).Encode(problem) // a caller that left is no fault
}

// relayed finds the relay's response under wrappers.
func relayed(w http.ResponseWriter) (*response, bool) {
	for {
		if r, ok := w.(*response); ok {
			return r, true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil, false
		}
		w = u.Unwrap()
	}
}
