package publisher

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
)

// duplexBody is a request body that is read while the reply is written. net/http does not do that for HTTP/1 unless it is
// told to, and then leaves to the handler what becomes of a connection on which a request has not been read to its end: it
// would look for the next request in the middle of this one, or panic (go.dev/issue/68560). Such a connection is closed.
type duplexBody struct {
	io.ReadCloser
	ended atomic.Bool
}

func (b *duplexBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.ended.Store(true)
	}
	return n, err
}

type duplexKey struct{}

// duplex returns the request with a body that can be read while the reply is written.
func duplex(w http.ResponseWriter, r *http.Request) *http.Request {
	if r.ProtoMajor != 1 || readAhead(r) || http.NewResponseController(w).EnableFullDuplex() != nil {
		return r
	}
	body := &duplexBody{ReadCloser: r.Body}
	r = r.WithContext(context.WithValue(r.Context(), duplexKey{}, body))
	r.Body = body
	return r
}

// closeUnread has the connection closed after the reply, whose header this is, if the request has not been read by now.
func closeUnread(r *http.Request, reply http.Header) {
	if body, ok := r.Context().Value(duplexKey{}).(*duplexBody); ok && !body.ended.Load() {
		reply.Set("Connection", "close")
	}
}
