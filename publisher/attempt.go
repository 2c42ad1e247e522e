package publisher

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

const (
	// hintGrace is how long the publisher goes on waiting for a sealed reply after an unsealed refusal or a 503.
	hintGrace = 2 * time.Second
	// replyGrace is how much longer than the worker the publisher waits for the first byte.
	replyGrace = 2 * time.Second
)

// attempt is a request at one instance.
type attempt struct {
	t       *Transport
	call    *call
	where   candidate
	grant   *madeGrant
	stream  *relay.Stream
	subject string
	refers  atomic.Bool // to a grant that was not sent with it
	hinted  atomic.Bool
	sent    atomic.Int64 // messages published; negative: none may be any more

	once    sync.Once
	release func()
	stop    func() bool // of watching the caller's context
	body    io.Closer   // being uploaded; nil if there is nothing to stream
}

// attempt sends the call to one instance and waits for the head of its reply.
func (t *Transport) attempt(c *call, where candidate, body io.ReadCloser, release func()) (*http.Response, *failure) {
	a, err := t.start(c, where, release)
	if err != nil {
		c.stream = body // nothing of it was read: it is good for another attempt
		return nil, &failure{neverSent(err), relay.NotDelivered}
	}
	if body != nil {
		a.body = body
		if s := servedFrom(c.ctx); s != nil {
			s.proceed()
		}
		go a.upload(body)
	}
	resp, f := a.reply()
	if f != nil {
		f.error.RequestID = a.stream.ID().String()
		a.keepSlot()
		a.finish()
	}
	return resp, f
}

// start seals and publishes the first message. An error means that nothing has left.
func (t *Transport) start(c *call, where candidate, release func()) (*attempt, *relay.Error) {
	if most := where.said.MaxBody; most > 0 && c.head.Length > most {
		return nil, relay.Errorf(relay.CodeBodyTooLarge, "the body has %d bytes, the service takes at most %d", c.head.Length, most)
	}
	grant, err := t.grants.get(c.token, c.tag, where.said)
	if err != nil {
		return nil, relay.AsError(err)
	}
	id := relay.NewID()
	a := &attempt{t: t, call: c, where: where, grant: grant, release: release, subject: t.subjects.Request(c.service, where.id, t.cfg.App)}
	head := c.head
	head.Subject, head.Reply = a.subject, t.subjects.Reply(t.cfg.App, t.inbox, id)
	head.IssuedAt = t.cfg.Now().UnixMilli()
	encoded, err := relay.EncodeHead(&head)
	if err != nil {
		return nil, relay.AsError(err)
	}
	a.stream = relay.NewStream(context.Background(), relay.StreamConfig{
		Role: relay.RoleApp, ID: id, Grant: grant.Grant, Limit: relay.FrameLimit(t.nc.NATS().MaxPayload()), Budget: t.budget, Now: t.cfg.Now,
		Publish: a.publisher(t.subjects.Control(c.service, where.id, t.cfg.App, id), head.Reply, t.cfg.Hints.Request(id, &head)),
	})
	a.stream.SetGrant(grant.compact)
	if grant.known.Load() {
		a.refers.Store(true)
		a.stream.ReferToGrant(grant.hash)
	}
	if !t.enter(id, a) {
		a.stream.Close()
		return nil, relay.NewError(relay.CodePublisherDraining, "the publisher is stopping")
	}
	if told := t.cfg.OnAttempt; told != nil {
		told(c.ctx, Attempt{ID: id, Service: c.service, Instance: where.id, Subject: a.subject})
	}
	where.inFlight.Add(1)
	a.stop = context.AfterFunc(c.ctx, func() {
		a.stream.Cancel(relay.CodeCanceled, canceled(c.ctx))
	})
	if err := a.sendHead(encoded); err != nil {
		a.keepSlot()
		a.once.Do(a.leave)
		if e, ok := errors.AsType[*relay.Error](err); ok { // the caller left before anything was sent
			return nil, e
		}
		return nil, relay.Wrap(relay.CodeNATSUnavailable, err, "publishing the request")
	}
	return a, nil
}

// sendHead sends the head alone, or with the body if that is whole. A whole body that does not fit beside a large head
// follows in data frames.
func (a *attempt) sendHead(encoded []byte) error {
	c := a.call
	if !c.whole {
		return a.stream.SendHead(encoded, nil, false, 0)
	}
	if len(c.body) <= a.stream.HeadRoom(len(encoded)) {
		return a.stream.SendHead(encoded, c.body, true, 0)
	}
	if err := a.stream.SendHead(encoded, nil, false, 0); err != nil {
		return err
	}
	if _, err := a.stream.WriteData(c.ctx, c.body); err != nil { // at most the first window: it does not wait
		return nil // the head is out, so this is for reply to report
	}
	end, _ := relay.EncodeHead(&relay.End{})
	_ = a.stream.SendEnd(end, 0) // as above
	return nil
}

// publisher returns how the frames of one request leave: the first on the req subject, the others on ctl.
func (a *attempt) publisher(control, reply string, hints nats.Header) relay.Publish {
	return func(payload []byte, f relay.FrameType, _ int) error {
		if a.sent.Add(1) < 0 {
			return errNotDelivered
		}
		if f == relay.FrameHead || f == relay.FrameWhole {
			return a.t.nc.PublishMsg(&nats.Msg{Subject: a.subject, Reply: reply, Header: hints, Data: payload})
		}
		return a.t.nc.PublishMsg(&nats.Msg{Subject: control, Reply: reply, Data: payload})
	}
}

var errNotDelivered = errors.New("the caller was told that nothing was delivered")

// upload streams the body until its end, the reply's end or a failure.
func (a *attempt) upload(body io.ReadCloser) {
	buf := a.t.buffers.Get()
	defer a.t.buffers.Put(buf)
	length, read := a.call.head.Length, int64(0)
	for {
		n, err := body.Read(buf)
		read += int64(n)
		if length >= 0 && (read > length || err == io.EOF && read < length) {
			e := relay.NewError(relay.CodeBadRequest, "the body has another length than its Content-Length")
			e.Outcome = relay.Unknown
			a.stream.Cancel(relay.CodeCanceled, e)
			return
		}
		if n > 0 {
			if _, err := a.stream.WriteData(a.stream.Context(), buf[:n]); err != nil {
				return
			}
		}
		if err == io.EOF {
			trailer := a.call.request.Trailer.Clone()
			relay.StripTrailer(trailer)
			relay.CleanHeader(trailer) // the worker takes no end that holds others, and net/http reads others
			end, err := relay.EncodeHead(&relay.End{Trailer: trailer})
			if err != nil {
				end, _ = relay.EncodeHead(&relay.End{}) // trailers too large are left out
			}
			_ = a.stream.SendEnd(end, 0) // the stream's failure is seen by the reader
			return
		}
		if err != nil {
			a.stream.Cancel(relay.CodeCanceled, unread(err))
			return
		}
	}
}

// unread is what becomes of a request whose body broke off: the caller left, or is there and hears that the body is at fault.
// The handler may have read a part of it by then.
func unread(err error) *relay.Error {
	_, network := errors.AsType[net.Error](err)
	if network || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errBodyClosed) {
		return relay.Wrap(relay.CodeCanceled, err, "reading the request's body")
	}
	e := relay.Wrap(relay.CodeBadRequest, relay.UnquotedError(err), "the body could not be read to its end")
	e.Outcome = relay.Unknown
	return e
}

// reply waits for the head of the reply.
func (a *attempt) reply() (*http.Response, *failure) {
	timeout := time.Duration(a.call.head.TimeoutMS) * time.Millisecond
	timer := relay.NewReplyTimer(a.stream, timeout+replyGrace, func() {
		a.stream.Cancel(relay.CodeTimeout, relay.Errorf(relay.CodeTimeout, "no answer within %v", timeout))
	})
	defer timer.Stop()
	timer.Start()
	for {
		frame, err := a.stream.Head(context.Background())
		if err != nil {
			return nil, a.broken(err)
		}
		if !a.grant.known.Load() {
			a.grant.known.Store(true)
		}
		head, err := relay.DecodeReplyHead(frame.JSON)
		if err != nil {
			return nil, a.broken(relay.Unfit("worker", relay.ReplyHeadTypeName, err))
		}
		switch {
		case frame.Type == relay.FrameInform && (head.Status >= 200 || head.Status == http.StatusSwitchingProtocols):
			return nil, a.broken(relay.Errorf(relay.CodeStreamBroken, "the status %d came where an informational one belongs", head.Status))
		case frame.Type == relay.FrameInform:
			a.inform(head)
		case head.Refusal != nil && frame.Type != relay.FrameWhole:
			return nil, a.broken(relay.NewError(relay.CodeStreamBroken, "a refusal came with a body to follow"))
		case head.Refusal != nil:
			return nil, said(head.Refusal, relay.NotStarted)
		case head.Failure != nil:
			return nil, said(head.Failure, relay.Unknown)
		default:
			return a.response(frame, head)
		}
	}
}

// said is what the worker says in place of a reply. How it says it, and not the problem's own outcome, tells whether the
// request was started.
func said(p *relay.Problem, outcome relay.Outcome) *failure {
	e := p.Err()
	e.Outcome = outcome
	return &failure{e, outcome}
}

// broken is what the stream's failure means for the caller.
func (a *attempt) broken(err error) *failure {
	e := *relay.AsError(err)
	if e.Code == relay.CodeOutcomeUnknown || e.Code == relay.CodeRefusedUnverified {
		a.t.directory.avoid(a.where.instance)
	}
	return &failure{&e, cmp.Or(e.Outcome, e.Code.Info().Outcome)}
}

// inform passes a 1xx reply on to the sidecar's caller and to whoever traces the request, as net/http does.
func (a *attempt) inform(head *relay.ReplyHead) {
	relay.StripReply(head.Header)
	delete(head.Header, "Content-Length")
	if s := servedFrom(a.call.ctx); s != nil {
		s.inform(head)
	}
	if trace := httptrace.ContextClientTrace(a.call.ctx); trace != nil && trace.Got1xxResponse != nil {
		if err := trace.Got1xxResponse(head.Status, textproto.MIMEHeader(head.Header)); err != nil {
			a.stream.Fail(relay.Wrap(relay.CodeCanceled, err, "the caller refused an informational reply"))
		}
	}
}

// grantUnknown sends the request again, with the grant that it only referred to. Whoever asks for it need not be the worker:
// it gets nothing that would not have been sent at first, and only once.
func (a *attempt) grantUnknown() bool {
	if !a.refers.CompareAndSwap(true, false) {
		return false
	}
	a.grant.known.Store(false)
	go a.stream.Resend()
	return true
}

// hint takes in what somebody who could not prove to be the worker says: an unsealed refusal, or a 503 as
// CodeOutcomeUnknown. It decides nothing, but the caller need not wait for the whole timeout: unless a frame of the worker
// opens within hintGrace, the request ends as unknown.
func (a *attempt) hint(code relay.Code) {
	if !a.hinted.CompareAndSwap(false, true) {
		return
	}
	heard := a.stream.Heard()
	a.t.directory.avoid(a.where.instance)
	e := relay.Errorf(relay.CodeRefusedUnverified, "the answer %q came unsealed", string(code))
	if code == relay.CodeOutcomeUnknown {
		// Only the 503 to the one message sent so far says that the request was not delivered; that to a later frame, or
		// to the same bytes sent again, says that the worker has left since.
		if a.t.cfg.TrustBroker && heard == 0 && a.sent.CompareAndSwap(1, math.MinInt64) {
			a.stream.Fail(relay.Errorf(relay.CodeNoWorker, "NATS says that worker %s is gone", a.where.id))
			return
		}
		e = relay.Errorf(relay.CodeOutcomeUnknown, "NATS says that worker %s is gone, which nothing proves", a.where.id)
	}
	if heard == 0 && a.call.repeatable() && a.t.hasOther(a.call.service, a.where.id) {
		a.stream.Fail(e)
		return
	}
	for _, after := range []time.Duration{hintGrace / 8, hintGrace / 2} {
		time.AfterFunc(after, a.stream.Resend) // the same bytes: it may be reconnecting
	}
	time.AfterFunc(hintGrace, func() {
		if a.stream.Heard() > heard { // it is there after all
			a.hinted.Store(false)
			return
		}
		a.stream.Fail(e)
	})
}

// hasOther reports whether the service has another instance that is ready.
func (t *Transport) hasOther(service, id string) bool {
	_, all, _ := t.directory.candidates(service)
	for _, c := range all {
		if c.id != id && c.class == 0 {
			return true
		}
	}
	return false
}

// keepSlot leaves the slot to the caller of attempt, which may try elsewhere.
func (a *attempt) keepSlot() { a.release = func() {} }

// finish ends the attempt. A worker that has not ended its reply hears that nobody waits for it, whatever the reason: its handler
// would go on until the silence is long enough.
func (a *attempt) finish() {
	a.once.Do(func() {
		if !a.stream.Answered() {
			err := a.stream.Err()
			if err == nil {
				err = errReplyHead
			}
			a.stream.Cancel(relay.AsError(err).Code, err)
		}
		a.leave()
	})
}

// leave forgets the attempt.
func (a *attempt) leave() {
	a.stop()
	a.t.mu.Lock()
	delete(a.t.live, a.stream.ID())
	a.t.mu.Unlock()
	a.where.inFlight.Add(-1)
	a.stream.Close()
	if a.body != nil {
		_ = a.body.Close() // ends an upload that nobody reads any more
	}
	a.release()
}

var errReplyHead = relay.NewError(relay.CodeStreamBroken, "the reply's head breaks the rules")
