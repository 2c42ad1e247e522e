package publisher

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/obo-relay/obo-relay/relay"
)

// served is a request at the sidecar. The Transport finds it in the request's context, whatever the two have between them.
type served struct {
	w        http.ResponseWriter
	body     servedBody
	duplex   bool // net/http leaves the connection to us
	streamed bool // the reply comes in pieces, which are passed on as they come
	old      bool // HTTP/1.0, which knows no informational replies
	expects  bool // waits for 100 Continue before it sends its body
}

type servedKey struct{}

// servedFrom returns the sidecar's request behind a context, nil if it is none.
func servedFrom(ctx context.Context) *served {
	s, _ := ctx.Value(servedKey{}).(*served)
	return s
}

// request is what the Transport is given: the sidecar's own request, with the service for a host.
func (s *served) request(r *http.Request, service string) *http.Request {
	s.old = !r.ProtoAtLeast(1, 1)
	// net/http does not read a body while the reply is written, for HTTP/1, unless it is told to.
	s.duplex = r.ProtoMajor == 1 && !readAhead(r) && http.NewResponseController(s.w).EnableFullDuplex() == nil
	s.expects = s.duplex && !s.old && r.Header.Get("Expect") != ""
	out := r.WithContext(context.WithValue(r.Context(), servedKey{}, s))
	out.URL = new(url.URL)
	*out.URL = *r.URL
	out.URL.Scheme, out.URL.Host = "http", service
	if r.Body != nil && r.Body != http.NoBody {
		s.body.from = r.Body
		out.Body = &s.body
	}
	return out
}

// inform passes a 1xx reply on.
func (s *served) inform(head *relay.ReplyHead) {
	if s.old {
		return
	}
	h := s.w.Header()
	maps.Copy(h, head.Header)
	s.w.WriteHeader(head.Status)
	clear(h) // it was that reply's alone
}

// proceed asks for the body. net/http would do so where the body is read, beside an informational reply that is being written.
func (s *served) proceed() {
	if s.expects {
		s.w.WriteHeader(http.StatusContinue)
	}
}

// closeUnread has the connection closed after the reply, whose header this is, if the request has not been read by now: with
// full duplex net/http would look for the next request in the middle of this one, or panic (go.dev/issue/68560).
func (s *served) closeUnread(reply http.Header) {
	if s.duplex && !s.body.ended.Load() {
		reply.Set("Connection", "close")
	}
}

// servedBody is the request's body. Closing it ends reading and nothing else: net/http's own Close would first wait for the
// rest of what the caller sends.
type servedBody struct {
	from   io.Reader
	ended  atomic.Bool
	closed atomic.Bool
}

func (b *servedBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, errBodyClosed
	}
	n, err := b.from.Read(p)
	if err == io.EOF {
		b.ended.Store(true)
	}
	return n, err
}

// Close may come while Read waits for the caller.
func (b *servedBody) Close() error {
	b.closed.Store(true)
	return nil
}

var errBodyClosed = errors.New("the request is over")

// flushing passes on each piece of a reply at once.
type flushing struct {
	w     io.Writer
	flush *http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	_ = f.flush.Flush() // a fault shows at the next write
	return n, err
}
