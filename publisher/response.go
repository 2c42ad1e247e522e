package publisher

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// response makes the http.Response of a reply whose head has come.
func (a *attempt) response(frame relay.HeadFrame, head *relay.ReplyHead) (*http.Response, *failure) {
	if head.Status < 200 { // an upgrade was not asked for, and what informs comes in frames of its own
		return nil, a.broken(relay.Errorf(relay.CodeStreamBroken, "the reply ends with the status %d", head.Status))
	}
	relay.StripReply(head.Header)
	head.Header.Set(relay.HeaderOboID, a.stream.ID().String())
	resp := &http.Response{
		Status: strconv.Itoa(head.Status) + " " + http.StatusText(head.Status), StatusCode: head.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: head.Header, ContentLength: head.Length, Request: a.call.request,
	}
	delete(head.Header, "Content-Length")
	if head.Length >= 0 && head.Status != http.StatusNoContent {
		head.Header.Set("Content-Length", strconv.FormatInt(head.Length, 10))
	}
	if a.call.head.Method != http.MethodHead && a.bodyless(head.Status) {
		resp.ContentLength = 0 // of what can be read, as net/http has it
	}
	if len(head.Trailer) > 0 {
		resp.Trailer = http.Header{}
		for _, name := range head.Trailer {
			resp.Trailer[http.CanonicalHeaderKey(name)] = nil
		}
		relay.StripTrailer(resp.Trailer)
	}
	length := head.Length
	if a.bodyless(head.Status) {
		length = 0
	}
	if frame.Type == relay.FrameWhole {
		if length >= 0 && int64(len(frame.Body)) != length {
			return nil, a.broken(errReplyLength)
		}
		a.finish()
		resp.Body = http.NoBody
		if len(frame.Body) > 0 {
			resp.Body = io.NopCloser(bytes.NewReader(frame.Body))
		}
		return resp, nil
	}
	if s := servedFrom(a.call.ctx); s != nil {
		s.streamed = true
	}
	a.stream.Expect(length)
	body := &replyBody{a: a, resp: resp, length: length}
	idle := a.t.cfg.IdleTimeout
	body.idle = time.AfterFunc(idle, func() {
		a.stream.Cancel(relay.CodeTimeout, relay.Errorf(relay.CodeTimeout, "the service sent nothing more for %v (the idle limit)", idle))
	})
	body.idle.Stop()
	resp.Body = body
	return resp, nil
}

// bodyless reports whether a Content-Length describes a body that does not come.
func (a *attempt) bodyless(status int) bool {
	return a.call.head.Method == http.MethodHead || status == http.StatusNotModified || status == http.StatusNoContent
}

var errReplyLength = relay.NewError(relay.CodeStreamBroken, "the reply's body has another length than its head says")

// replyBody is the body of a streamed reply. It is whole at io.EOF, or an error.
type replyBody struct {
	a      *attempt
	resp   *http.Response
	length int64       // declared, -1 = not known
	idle   *time.Timer // runs while a Read waits
	closed atomic.Bool

	mu   sync.Mutex // Read; Close may come at any time
	read int64
}

func (b *replyBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	b.idle.Reset(b.a.t.cfg.IdleTimeout)
	n, err := b.a.stream.Read(p)
	b.idle.Stop()
	b.read += int64(n)
	if over := b.read - b.length; b.length >= 0 && over > 0 {
		n, err = n-int(over), errReplyLength
	}
	if err == nil {
		return n, nil
	}
	if err == io.EOF && b.length >= 0 && b.read != b.length {
		err = errReplyLength
	}
	if err == io.EOF {
		b.trailers()
		b.a.finish()
		return n, io.EOF
	}
	e := *relay.AsError(err)
	e.RequestID = b.a.stream.ID().String()
	b.a.finish()
	return n, &e
}

func (b *replyBody) trailers() {
	end := b.a.stream.Trailer()
	if end == nil || len(end.Trailer) == 0 {
		return
	}
	relay.StripTrailer(end.Trailer)
	if b.resp.Trailer == nil {
		b.resp.Trailer = http.Header{}
	}
	for name, values := range end.Trailer {
		b.resp.Trailer[name] = values
	}
}

// Close ends the request; if the body has not been read to its end the worker is told to stop.
func (b *replyBody) Close() error {
	b.closed.Store(true)
	b.a.abandon()
	return nil
}

// abandon ends an attempt whose reply may not be complete.
func (a *attempt) abandon() {
	if a.stream.Err() == nil {
		a.stream.Cancel(relay.CodeCanceled, relay.NewError(relay.CodeCanceled, "the reply's body was closed"))
	}
	a.finish()
}
