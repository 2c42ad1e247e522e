package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// serve takes one message on a req subject through admission, checks and handler to the end of its reply.
func (w *Worker) serve(x *exchange, m *nats.Msg, from, reply relay.Address) {
	a, err := w.admission.admit(x.quota, m, from, reply)
	if err != nil {
		x.refuse()
		w.exchanges.forget(x)
		if errors.Is(err, errRepeated) {
			w.stats.dropped.Add(1)
			return
		}
		w.refuseUnsealed(x.quota, m.Reply, from.App, reply.ID, err)
		return
	}
	control := w.subjects.Control(from.Service, from.Instance, from.App, reply.ID)
	stream := relay.NewStream(context.Background(), relay.StreamConfig{
		Role: relay.RoleService, ID: reply.ID, Grant: a.grant, Limit: relay.FrameLimit(w.nc.NATS().MaxPayload()),
		Budget: w.budget, Now: w.cfg.Now, Publish: w.publisher(m.Reply, control, reply.ID), Request: a.frame,
	})
	if !a.whole {
		stream.Preload(a.body)
	}
	start := w.cfg.Now()
	e := newExchangeRun(w, a, stream, Call{ID: reply.ID, App: from.App, Service: w.cfg.Service, Token: a.grant.Token, workspace: w.cfg.Workspace})
	e.record = w.audit.record(reply.ID, AuditRelay, a.head.Method, a.head.Path, start)
	e.record.App = from.App
	ended := e.observe(m.Subject)
	x.admit(stream, e)
	defer w.ended(x, e, start, ended) // also where the handler ends its goroutine
	e.run()
}

// ended notes what came of a request, and keeps of it what the publisher may ask for again.
func (w *Worker) ended(x *exchange, e *exchangeRun, start time.Time, told func(RequestEnd)) {
	x.done()
	status, code, written := e.response.result()
	took := w.cfg.Now().Sub(start)
	if err := x.stream.Err(); err != nil && code == "" {
		code = relay.AsError(err).Code
	}
	w.stats.finished(code, took)
	w.log.Info("request", "request_id", e.call.ID.String(), "app", e.call.App, "method", e.record.Method, "path", e.record.Path,
		"user", e.userName, "status", status, "code", string(code), "bytes", written, "ms", took.Milliseconds())
	e.record.ended(status, code, took, e.received.Load(), written)
	if told != nil {
		told(RequestEnd{status, code, e.received.Load(), written})
	}
	w.audit.end(e.record)
	w.exchanges.finish(x, w.elapsed())
}

// publisher returns how the frames of one reply leave.
func (w *Worker) publisher(subject, control string, id relay.ID) relay.Publish {
	return func(payload []byte, _ relay.FrameType, status int) error {
		return w.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: control, Header: w.cfg.Hints.Reply(id, status), Data: payload})
	}
}

// exchangeRun is the part of a request after the burn. From here on every answer is sealed.
type exchangeRun struct {
	w        *Worker
	a        *admitted
	stream   *relay.Stream
	call     Call
	ctx      context.Context // the handler's
	cancel   context.CancelCauseFunc
	timer    *relay.ReplyTimer // to the first byte of the reply head
	response *response
	userName string
	record   *AuditRecord
	received atomic.Int64 // bytes of the body that came with the head, or that the handler has read
}

func newExchangeRun(w *Worker, a *admitted, stream *relay.Stream, call Call) *exchangeRun {
	e := &exchangeRun{w: w, a: a, stream: stream, call: call}
	e.ctx, e.cancel = context.WithCancelCause(stream.Context())
	timeout := a.head.Timeout()
	e.timer = relay.NewReplyTimer(stream, timeout, func() {
		e.interrupt(relay.Errorf(relay.CodeTimeout, "no answer from the service within %v", timeout))
	})
	e.response = newResponse(e.ctx, stream, a.head.Method, e.timer.Stop)
	if a.fault == nil { // else the timeout may be what is wrong
		e.timer.Start()
	}
	return e
}

// interrupt cancels the handler and tells the caller why.
func (e *exchangeRun) interrupt(cause *relay.Error) {
	e.response.interrupted(cause)
	e.cancel(cause)
	e.logFault(e.response.fail(cause))
}

// run makes the checks 6 to 8 of PROTOCOL.md §8 and dispatches.
func (e *exchangeRun) run() {
	defer e.cancel(context.Canceled)
	defer e.timer.Stop()
	whose := e.a.whose
	var ready chan error
	refusal := e.check()
	if refusal == nil {
		ready, refusal = e.w.slots.enter(whose)
	}
	if refusal != nil {
		e.logFault(e.response.refuse(refusal))
	}
	e.w.admission.turns.release(whose)
	if refusal != nil {
		return
	}
	if err := e.w.slots.wait(e.ctx, whose, ready); err != nil {
		e.logFault(e.response.refuse(relay.AsError(err)))
		return
	}
	defer e.w.slots.release(whose)
	if ready != nil { // the token may have run out in the queue
		if refusal := e.w.gate.check(e.call.Token); refusal != nil {
			e.logFault(e.response.refuse(refusal))
			return
		}
	}
	verdict := e.w.gate.judge(e.ctx, e.call.ID, e.call.Token, e.a.head.Method, e.a.head.Path)
	e.record.judged(verdict)
	if verdict.user != nil {
		e.userName = verdict.user.UserName
	}
	refusal = verdict.refusal
	if refusal == nil {
		refusal = e.w.audit.start(e.ctx, e.record)
	}
	if refusal != nil {
		e.logFault(e.response.refuse(refusal))
		return
	}
	if e.ctx.Err() != nil { // the caller left, or was told that it is too late, while the workspace was asked
		e.record.Decision = AuditRefused
		e.logFault(e.response.refuse(relay.AsError(context.Cause(e.ctx))))
		return
	}
	e.dispatch(verdict.user)
}

func asLookupError(ctx context.Context, err error) *relay.Error {
	if cause, ok := errors.AsType[*relay.Error](context.Cause(ctx)); ok {
		return cause
	}
	if e, ok := errors.AsType[*relay.Error](err); ok {
		c := *e // shared through the cache
		return &c
	}
	return relay.Wrap(relay.CodeWorkspaceDown, err, "asking the workspace who this person is failed")
}

// check is what can be refused before anybody else is asked.
func (e *exchangeRun) check() *relay.Error {
	w, a := e.w, e.a
	switch {
	case a.fault != nil:
		return a.fault
	case a.whole && a.head.Length >= 0 && a.head.Length != int64(len(a.body)):
		return relay.NewError(relay.CodeBadRequest, "the body has another length than its head says")
	case w.cfg.MaxBody > 0 && max(a.head.Length, int64(len(a.body))) > w.cfg.MaxBody:
		return relay.Errorf(relay.CodeBodyTooLarge, "the body is over this worker's limit of %d bytes", w.cfg.MaxBody)
	case w.refusing():
		return &relay.Error{Code: relay.CodeWorkerDraining, Detail: "this worker is about to stop"}
	}
	return w.gate.check(e.call.Token)
}

// dispatch runs the handler.
func (e *exchangeRun) dispatch(user *User) {
	r, unfit, err := newRequest(e.ctx, e.a, e.call, user, e.w.cfg.IdentityHeaders)
	if err != nil {
		e.logFault(e.response.refuse(relay.AsError(err)))
		return
	}
	if len(unfit) > 0 {
		e.w.log.Warn("identity headers left out: the person's values do not fit", "request_id", e.call.ID.String(), "headers", unfit)
	}
	r.Body = e.body(r)
	returned := false
	defer func() {
		if r.MultipartForm != nil { // as net/http's server does: what was uploaded would stay on disk
			_ = r.MultipartForm.RemoveAll()
		}
		if !returned { // p is nil after runtime.Goexit, which must not make half of a reply look whole
			e.panicked(recover())
			return
		}
		e.logFault(e.response.finish())
	}()
	e.w.cfg.Handler.ServeHTTP(e.response, r)
	returned = true
}

// body is what the handler reads: the bytes that came with the head if that is all, else the stream.
func (e *exchangeRun) body(r *http.Request) io.ReadCloser {
	if e.a.whole {
		r.ContentLength = int64(len(e.a.body))
		if len(e.a.body) == 0 {
			return http.NoBody
		}
		e.received.Store(r.ContentLength)
		return newWholeBody(e.a.body)
	}
	e.stream.Expect(e.a.head.Length)
	if e.a.head.Length < 0 { // as net/http's server has it: its client, of Forward, would drop a GET's body that is empty, and its trailers
		r.TransferEncoding = []string{"chunked"}
	}
	body := &requestBody{ctx: e.ctx, stream: e.stream, length: e.a.head.Length, request: r}
	if most := e.w.cfg.MaxBody; most > 0 {
		return counted(http.MaxBytesReader(e.response, body, most), &e.received)
	}
	return counted(body, &e.received)
}

// panicked ends the request of a handler that died, or that ended its goroutine: p is nil then. The panic's value may hold anything of the request, so only its type
// and, for the runtime's own errors, its text are logged.
func (e *exchangeRun) panicked(p any) {
	failure := relay.NewError(relay.CodeHandlerFailed, "the handler broke off")
	if p == http.ErrAbortHandler {
		if e.ctx.Err() == nil { // it was not made to
			e.w.log.Warn("the handler broke off its reply", "request_id", e.call.ID.String())
		}
	} else {
		text := fmt.Sprintf("%T", p)
		if p == nil {
			text = "runtime.Goexit"
		}
		if re, ok := p.(runtime.Error); ok {
			text = re.Error()
		}
		e.w.log.Error("the handler panicked", "request_id", e.call.ID.String(), "panic", text, "stack", string(debug.Stack()))
	}
	if cause, ok := errors.AsType[*relay.Error](e.stream.Err()); ok {
		failure = cause
	}
	e.logFault(e.response.fail(failure))
}

// logFault notes that a reply could not be sent. What the caller is told comes from the stream's other end.
func (e *exchangeRun) logFault(err error) {
	if err != nil && !errors.Is(err, relay.CodeCanceled) && !errors.Is(err, io.EOF) {
		e.w.log.Warn("the reply was not completed", "request_id", e.call.ID.String(), "error", err)
	}
}
