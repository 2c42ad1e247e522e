package publisher

import (
	"net/http"

	"github.com/obo-relay/obo-relay/relay"
)

// maxAttempts is how many instances a request is tried at.
const maxAttempts = 3

// RoundTrip carries the request to a worker of the service that the URL's host names. A response is the handler's own;
// every other end is a *relay.Error.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.roundTrip(r)
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // http.RoundTripper must close it; the request has failed anyway
		}
		return nil, err
	}
	return resp, nil
}

func (t *Transport) roundTrip(r *http.Request) (*http.Response, error) {
	c, fault := t.newCall(r)
	if fault != nil {
		return nil, fault
	}
	release, fault := t.slots.take(c.tag)
	if fault != nil {
		return nil, fault
	}
	resp, fault := t.try(c, release)
	if fault != nil {
		if c.stream != nil {
			_ = c.stream.Close() // it may be one that GetBody made
		}
		release()
		return nil, fault
	}
	return resp, nil
}

// try goes from instance to instance as far as PROTOCOL.md §10 allows. The slot is released by the response's end.
func (t *Transport) try(c *call, release func()) (*http.Response, *relay.Error) {
	tried := map[string]bool{}
	var last *failure
	for range maxAttempts {
		if c.ctx.Err() != nil {
			return nil, last.or(canceled(c.ctx))
		}
		if err := t.awaitConnection(c.ctx); err != nil {
			return nil, last.or(err)
		}
		wait := last == nil || last.error.Code == relay.CodeWorkerDraining // its successor may be starting
		body, ok := c.takeStream()                                         // which may take long, so a worker is chosen after it, by the trust of then
		if !ok {
			return nil, last.error
		}
		where, err := t.find(c.ctx, c.service, c.tag, tried, wait)
		if err != nil {
			c.stream = body
			return nil, last.or(err)
		}
		connected := t.nextConnect()
		resp, f := t.attempt(c, where, body, release)
		if f == nil {
			return resp, nil
		}
		last = f.after(last, c)
		if !f.elsewhere(c) {
			break
		}
		if f.error.Code == relay.CodeNATSUnavailable { // that says nothing about the instance
			t.awaitReconnect(c.ctx, connected)
		} else {
			tried[where.id] = true
		}
		t.log.Info("trying another worker", "request_id", f.error.RequestID, "service", c.service, "instance", where.id, "code", string(f.error.Code))
	}
	return nil, last.error
}

// failure is how an attempt ended without a response.
type failure struct {
	error   *relay.Error
	outcome relay.Outcome
}

// after is what the caller is told when the attempt before ended differently. An attempt that may have been executed is
// not made good by a later one that was not, unless the method is safe and a worker has said so: then the later one knows more.
func (f *failure) after(before *failure, c *call) *failure {
	knowsMore := f.outcome == relay.Unknown || f.outcome == relay.NotStarted && relay.SafeMethod(c.head.Method)
	if before != nil && before.outcome == relay.Unknown && !knowsMore {
		return before
	}
	return f
}

// or prefers what a worker or the network has said to "there is no other".
func (f *failure) or(e *relay.Error) *relay.Error {
	switch {
	case f == nil:
		return neverSent(e)
	case e.Code == relay.CodeCanceled:
		return e
	}
	return f.error
}

// neverSent is the error of a request of which nothing has left, whatever the table says of its code.
func neverSent(e *relay.Error) *relay.Error {
	c := *e
	c.Outcome = relay.NotDelivered
	return &c
}

// elsewhere reports whether the request may be tried at another instance.
func (f *failure) elsewhere(c *call) bool {
	switch f.outcome {
	case relay.NotDelivered:
		return f.error.Code == relay.CodeNATSUnavailable || f.error.Code == relay.CodeNoWorker
	case relay.NotStarted:
		return f.error.Code.Info().Elsewhere
	}
	if !c.repeatable() {
		return false
	}
	switch f.error.Code {
	case relay.CodeOutcomeUnknown, relay.CodeRefusedUnverified, relay.CodeStreamBroken, relay.CodeUpstreamFailed:
		return true
	}
	return false
}
