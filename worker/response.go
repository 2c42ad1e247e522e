package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http/httpguts"

	"github.com/obo-relay/obo-relay/relay"
)

// response is the http.ResponseWriter of one request. A reply that is small and ends before it is flushed becomes one
// frame; any other becomes a head, data as the handler flushes or fills the buffer, and an end.
type response struct {
	ctx      context.Context // the handler's: its end unblocks a write that waits for credit
	stream   *relay.Stream
	method   string
	onHead   func() // the first byte of the reply head is about to leave
	header   http.Header
	bodyless bool                        // HEAD, 204, 304: no body is sent
	cause    atomic.Pointer[relay.Error] // of the interruption; nil if there is none

	mu       sync.Mutex
	status   int // 0 before WriteHeader
	buffer   bytes.Buffer
	fixed    http.Header // the header as it was at WriteHeader
	length   int64       // declared, -1 = not known
	written  int64
	headSent bool
	over     bool       // nothing more can be said
	code     relay.Code // of a refusal or failure; empty for the handler's own reply
}

var (
	_ http.ResponseWriter = (*response)(nil)
	_ http.Flusher        = (*response)(nil)
	_ io.Writer           = (*response)(nil)
)

// bufferSize is how much of a reply waits for a flush or the end: with its head it fits into one frame.
const bufferSize = 32 << 10

func newResponse(ctx context.Context, stream *relay.Stream, method string, onHead func()) *response {
	return &response{ctx: ctx, stream: stream, method: method, onHead: onHead, header: http.Header{}, length: -1}
}

// Header returns the reply's header, as http.ResponseWriter does.
func (w *response) Header() http.Header { return w.header }

// WriteHeader fixes the reply's status and header, or sends an informational reply.
func (w *response) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeHeader(status)
}

func (w *response) writeHeader(status int) {
	if w.status != 0 || w.over {
		return
	}
	if status < 100 || status > 999 {
		panic("worker: invalid HTTP status " + strconv.Itoa(status))
	}
	if status == http.StatusSwitchingProtocols { // no head that a publisher takes (PROTOCOL.md §9)
		_ = w.breakOff(relay.NewError(relay.CodeHandlerFailed, "the handler switches protocols, which cannot cross the relay"), true)
		return
	}
	if status < 200 {
		w.inform(status)
		return
	}
	w.status = status
	w.fixed = w.header.Clone()
	w.bodyless = w.method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
	if v := w.fixed.Get("Content-Length"); v != "" {
		if n, err := strconv.ParseInt(v, 10, 64); err == nil && n >= 0 {
			w.length = n
		}
	}
}

// inform sends a 1xx reply; it is a courtesy, so a failure shows in what follows.
func (w *response) inform(status int) {
	h := w.header.Clone()
	relay.StripReply(h)
	relay.CleanHeader(h)
	delete(h, "Content-Length") // the reply's own
	if head, err := relay.EncodeHead(&relay.ReplyHead{Status: status, Header: h, Length: -1}); err == nil {
		_ = w.stream.SendInform(head)
	}
}

// Write adds to the body.
func (w *response) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 {
		w.writeHeader(http.StatusOK)
	}
	switch {
	case w.over:
		return 0, w.ended()
	case w.status == http.StatusNoContent || w.status == http.StatusNotModified:
		return 0, http.ErrBodyNotAllowed
	case w.length >= 0 && w.written+int64(len(p)) > w.length:
		return 0, http.ErrContentLength
	}
	w.written += int64(len(p))
	if !w.headSent && w.buffer.Len() == 0 && (w.bodyless || len(p) >= bufferSize) {
		w.sniff(p) // it will not be in the buffer
	}
	if w.bodyless { // HEAD: the body is counted, as net/http does
		return len(p), nil
	}
	if w.buffer.Len()+len(p) < bufferSize { // a large write is not copied
		return w.buffer.Write(p)
	}
	if err := w.flush(); err != nil {
		return 0, err
	}
	return w.stream.WriteData(w.ctx, p)
}

func (w *response) ended() error {
	if err := w.stream.Err(); err != nil {
		return err
	}
	return http.ErrHandlerTimeout
}

// Flush sends what has been written.
func (w *response) Flush() { _ = w.FlushError() }

// FlushError is Flush with its error, for http.ResponseController.
func (w *response) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 {
		w.writeHeader(http.StatusOK)
	}
	return w.flush()
}

// EnableFullDuplex is always on: the body can be read while the reply is written.
func (w *response) EnableFullDuplex() error { return nil }

// flush sends the head if it has not gone, and the buffer.
func (w *response) flush() error {
	if w.over {
		return w.ended()
	}
	if !w.headSent {
		return w.sendHead(false)
	}
	if w.buffer.Len() == 0 {
		return nil
	}
	_, err := w.stream.WriteData(w.ctx, w.buffer.Bytes())
	w.buffer.Reset()
	return err
}

// sendHead sends the head with the buffered body; whole says that the reply ends here.
func (w *response) sendHead(whole bool) error {
	h := w.fixed
	if whole && w.length < 0 && (!w.bodyless || w.written > 0) {
		w.length = w.written
	}
	w.sniff(w.buffer.Bytes())
	trailer := w.declaredTrailer()
	relay.StripReply(h)
	relay.CleanHeader(h)
	delete(h, "Content-Length")
	head, err := relay.EncodeHead(&relay.ReplyHead{Status: w.status, Header: h, Length: w.length, Trailer: trailer})
	if err != nil {
		return err
	}
	w.onHead()
	body := w.buffer.Bytes()
	room := min(max(w.stream.HeadRoom(len(head)), 0), len(body))
	fits := room == len(body)
	if err := w.stream.SendHead(head, body[:room], whole && fits, w.status); err != nil {
		return err
	}
	w.headSent = true
	if !fits {
		if _, err := w.stream.WriteData(w.ctx, body[room:]); err != nil {
			return err
		}
	}
	w.buffer.Reset()
	if whole && !fits {
		return w.sendEnd(&relay.End{})
	}
	return nil
}

// sniff sets the type of a body whose handler has not, by its first bytes.
func (w *response) sniff(p []byte) {
	if _, set := w.fixed["Content-Type"]; !set && len(p) > 0 && w.fixed.Get("Content-Encoding") == "" {
		w.fixed.Set("Content-Type", http.DetectContentType(p))
	}
}

// declaredTrailer lists the trailers that the handler announced in the Trailer header.
func (w *response) declaredTrailer() []string {
	var names []string
	for _, v := range w.fixed["Trailer"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)); httpguts.ValidHeaderFieldName(name) && httpguts.ValidTrailerHeader(name) {
				names = append(names, name)
			}
		}
	}
	for _, name := range names {
		delete(w.fixed, name)
	}
	return names
}

// trailer collects declared trailers and those with http.TrailerPrefix, which net/http's handlers use for late ones.
func (w *response) trailer() http.Header {
	out := http.Header{}
	for name, values := range w.header {
		if late, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			out[textproto.CanonicalMIMEHeaderKey(late)] = slices.Clone(values)
		}
	}
	for _, v := range w.header["Trailer"] {
		for name := range strings.SplitSeq(v, ",") {
			name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
			if values, ok := w.header[name]; ok && httpguts.ValidTrailerHeader(name) {
				out[name] = slices.Clone(values)
			}
		}
	}
	relay.StripTrailer(out)
	relay.CleanHeader(out)
	if len(out) == 0 {
		return nil
	}
	return out
}

// finish completes the reply after the handler has returned. A body shorter than its declared length is broken off, never
// ended, so that it does not look whole.
func (w *response) finish() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return nil
	}
	if cause := w.broken(); cause != nil {
		return w.breakOff(cause, started(cause))
	}
	if w.status == 0 {
		w.writeHeader(http.StatusOK)
	}
	if w.length >= 0 && w.written < w.length && !w.bodyless {
		return w.breakOff(relay.Errorf(relay.CodeHandlerFailed, "the handler wrote %d of the %d bytes it had declared", w.written, w.length), true)
	}
	trailer := w.trailer()
	if !w.headSent && trailer == nil {
		err := w.sendHead(true)
		w.over = true
		return w.sendFault(err)
	}
	if err := w.flush(); err != nil {
		return w.sendFault(err)
	}
	return w.sendEnd(&relay.End{Trailer: trailer})
}

// sendFault tells the caller that the handler's own head cannot be sent, or that the stream broke while it was, or the body.
func (w *response) sendFault(err error) error {
	cause := w.broken()
	if err != nil && !w.headSent && errors.Is(err, relay.CodeHeadTooLarge) {
		cause = relay.Wrap(relay.CodeHandlerFailed, err, "the handler's reply headers are too large")
	}
	if err == nil || cause == nil {
		return err
	}
	w.over = false
	return w.breakOff(cause, started(cause))
}

func (w *response) sendEnd(end *relay.End) error {
	w.over = true
	b, err := relay.EncodeHead(end)
	if err != nil {
		b, _ = relay.EncodeHead(&relay.End{}) // trailers too large are left out
	}
	return w.stream.SendEnd(b, w.status)
}

// result is what the request ended with, for counters and the log.
func (w *response) result() (status int, code relay.Code, written int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status, w.code, w.written
}
