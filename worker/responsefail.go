package worker

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/obo-relay/obo-relay/relay"
)

// refuse ends a request that no handler has seen.
func (w *response) refuse(e *relay.Error) error { return w.end(e, false) }

// fail ends a request that a handler has seen: with a failure in place of the head if that has not gone, else with a
// broken body. Only a code that is in itself proof of "not started" refuses.
func (w *response) fail(e *relay.Error) error {
	if cause := w.broken(); cause != nil {
		e = cause
	}
	return w.end(e, started(e))
}

// broken is why the reply cannot be the handler's own: it was interrupted, or the stream failed while somebody waits for it.
func (w *response) broken() *relay.Error {
	if cause := w.cause.Load(); cause != nil {
		return cause
	}
	if err := w.stream.Err(); err != nil && !errors.Is(err, relay.CodeCanceled) {
		return relay.AsError(err)
	}
	return nil
}

// started reports whether a handler that ends with e may have done something.
func started(e *relay.Error) bool { return e.Code.Info().Outcome != relay.NotStarted }

// interrupted is called before the handler is told to break off: if it returns, what it has said until then must not be taken
// for its whole reply.
func (w *response) interrupted(cause *relay.Error) { w.cause.CompareAndSwap(nil, cause) }

func (w *response) end(e *relay.Error, started bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.breakOff(e, started)
}

func (w *response) breakOff(e *relay.Error, started bool) error {
	if w.over {
		return nil
	}
	w.over = true
	w.code = e.Code
	named := *e // the handler may be reading it: it is its context's cause
	named.RequestID = w.stream.ID().String()
	problem := named.Problem()
	if w.headSent {
		problem.Outcome = relay.Unknown
		end, err := relay.EncodeHead(&relay.End{Failure: problem})
		if err != nil {
			return err
		}
		return w.stream.SendEnd(end, w.status)
	}
	head := &relay.ReplyHead{Status: problem.Status, Header: http.Header{}, Length: 0}
	if started {
		problem.Outcome = relay.Unknown
		head.Failure = problem
	} else {
		problem.Outcome = relay.NotStarted
		head.Refusal = problem
	}
	w.status = problem.Status
	b, err := relay.EncodeHead(head)
	if err != nil {
		return err
	}
	w.headSent = true
	w.onHead()
	return w.stream.SendHead(b, nil, true, problem.Status)
}

// Fail ends the request with an error of the relay in place of a reply: for handlers that know that nothing was started
// (CodeUpstreamDown: the publisher may try another instance) or that something broke. On any other ResponseWriter it
// writes the problem as application/problem+json.
func Fail(w http.ResponseWriter, e *relay.Error) {
	for unwrapped := w; ; {
		if r, ok := unwrapped.(*response); ok {
			_ = r.fail(e) // the stream's own failure, if any, is logged where the request ends
			return
		}
		u, ok := unwrapped.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		unwrapped = u.Unwrap()
	}
	problem := e.Problem()
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(problem.Status)
	_ = json.NewEncoder(w).Encode(problem)
}
