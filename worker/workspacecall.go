package worker

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// do makes one call of the REST API as the person and returns what the workspace answered, but for redirects. target is a
// path with or without query; header may be nil and is not kept. A GET is tried again for up to retry. The request's body
// and the answer's are streamed.
func (w *Workspace) do(ctx context.Context, token relay.Token, method, target string, header http.Header, body io.Reader, retry time.Duration) (*http.Response, error) {
	if err := checkToken(token, w.cfg.Clock()); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, w.host.String()+target, body)
	if err != nil {
		return nil, relay.NewError(relay.CodeBadRequest, "the method or path cannot be sent to the workspace")
	}
	if header != nil {
		r.Header = header.Clone()
	}
	if b, ok := body.(*knownLength); ok {
		r.ContentLength = b.length
	}
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	resp, err := w.guard.send(r, retry)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.StatusCode != http.StatusNotModified:
		defer discard(resp)
		return nil, w.guard.redirected(resp)
	}
	return resp, nil
}

// callError turns an error of do into one of the table, and reports whether the workspace may have acted on the call.
func callError(ctx context.Context, token relay.Token, err error) (e *relay.Error, acted bool) {
	if e, ok := errors.AsType[*relay.Error](err); ok {
		return e, e.Code.Info().Outcome == relay.Unknown // the body of the request broke off
	}
	if e, ok := ended(ctx); ok {
		return e, true
	}
	f := newCallFault(err)
	detail := f.reason + workspaceRequest(token, f.header)
	switch {
	case f.signIn:
		return relay.NewError(relay.CodeTokenRejected, detail), false
	case f.unsent:
		return relay.NewError(relay.CodeWorkspaceDown, detail), false
	case f.err != nil:
		return relay.NewError(relay.CodeTimeout, detail), true
	}
	return relay.NewError(relay.CodeWorkspaceFailed, detail), true
}

// ended is why a request is over before its handler is.
func ended(ctx context.Context) (*relay.Error, bool) {
	cause := context.Cause(ctx)
	if e, ok := errors.AsType[*relay.Error](cause); ok {
		return e, true
	}
	switch {
	case cause == nil:
		return nil, false
	case errors.Is(cause, context.DeadlineExceeded):
		return relay.NewError(relay.CodeTimeout, "the request's time limit passed"), true
	}
	return relay.NewError(relay.CodeCanceled, "the caller left"), true
}

// watchedBody ends a call that shows no sign of life for a time: no answer, or a body that stalls. Time that nobody reads in
// does not count.
type watchedBody struct {
	io.ReadCloser
	timer *time.Timer
	most  time.Duration
	stop  context.CancelFunc
}

// watchCall makes a call on a context that ends when nothing comes for most; the answer's header may take first.
func watchCall(ctx context.Context, first, most time.Duration, call func(context.Context) (*http.Response, error)) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(math.MaxInt64, func() { cancel(context.DeadlineExceeded) })
	timer.Reset(first)
	resp, err := call(ctx)
	timer.Stop()
	if err != nil {
		cancel(nil)
		return nil, err
	}
	resp.Body = &watchedBody{ReadCloser: resp.Body, timer: timer, most: most, stop: func() { cancel(nil) }}
	return resp, nil
}

func (b *watchedBody) Read(p []byte) (int, error) {
	b.timer.Reset(b.most)
	defer b.timer.Stop()
	return b.ReadCloser.Read(p)
}

func (b *watchedBody) Close() error {
	defer b.stop()
	return b.ReadCloser.Close()
}
