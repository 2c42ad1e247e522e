package worker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"

	"github.com/databricks/databricks-sdk-go/client"

	"github.com/obo-relay/obo-relay/relay"
)

// Call is what the relay knows of the request that a handler serves.
type Call struct {
	ID      relay.ID
	App     string // who sent it, proved by its signature
	Service string
	Token   relay.Token // the person's

	workspace *Workspace
}

type callKey struct{}

// CallFrom returns the relay's knowledge of the request; false outside of a relayed request.
func CallFrom(ctx context.Context) (Call, bool) {
	c, ok := ctx.Value(callKey{}).(Call)
	return c, ok
}

// WorkspaceFrom returns a client of the workspace that acts as the person whose request it is, and as nobody else: for
// databricks-sdk-go's services, as in iam.NewCurrentUser(client). Its calls end with the request's context if they are
// given it. It is an error outside of a relayed request, and without Config.Workspace.
func WorkspaceFrom(ctx context.Context) (*client.DatabricksClient, error) {
	call, ok := CallFrom(ctx)
	switch {
	case !ok:
		return nil, errors.New("worker: no relayed request in this context")
	case call.workspace == nil:
		return nil, errors.New("worker: Config.Workspace is not set")
	}
	return call.workspace.Client(call.Token)
}

// underServer is no server that runs. httputil.ReverseProxy panics with http.ErrAbortHandler on a body that breaks off, but only
// where it believes to run under one; without it in the context it would return as if the reply were complete.
var underServer = &http.Server{}

// newRequest makes the http.Request that the handler sees from a checked head. It carries the headers that the platform
// itself would have set, from the worker's own knowledge and never from the message; unfit names those whose value does
// not fit a header.
func newRequest(ctx context.Context, a *admitted, call Call, user *User, identity IdentityHeaders) (r *http.Request, unfit []string, err error) {
	target := a.head.Path
	if a.head.Query != "" {
		target += "?" + a.head.Query
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, nil, relay.NewError(relay.CodePathNotCanonical, "the path cannot be parsed")
	}
	h := a.head.Header
	requestID := relay.RequestID(h, call.ID)
	relay.StripRequest(h)
	h[relay.HeaderAccessToken] = []string{call.Token.Reveal()}
	h[relay.HeaderRequestID] = []string{requestID}
	unfit = identity.apply(h, user) // also without a user: it removes what the message had under these names
	ctx = context.WithValue(ctx, callKey{}, call)
	ctx = context.WithValue(ctx, http.ServerContextKey, underServer)
	if user != nil {
		ctx = withUser(ctx, user)
	}
	r = &http.Request{
		Method: a.head.Method, URL: u, RequestURI: target, Header: h, Host: call.Service, RemoteAddr: call.App,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: a.head.Length,
	}
	if len(a.head.Trailer) > 0 {
		r.Trailer = http.Header{}
		for _, name := range a.head.Trailer {
			r.Trailer[textproto.CanonicalMIMEHeaderKey(name)] = nil
		}
		relay.StripTrailer(r.Trailer)
		identity.clear(r.Trailer) // some servers add trailers to the header
	}
	return r.WithContext(ctx), unfit, nil
}

// requestBody is the body of a relayed request. It is whole at io.EOF, or an error.
type requestBody struct {
	ctx     context.Context
	stream  *relay.Stream
	length  int64 // declared, -1 = not known
	read    int64
	request *http.Request // whose Trailer is filled in at the end
}

var errLength = relay.NewError(relay.CodeStreamBroken, "the request's body has another length than its head says")

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.stream.ReadContext(b.ctx, p)
	b.read += int64(n)
	switch {
	case b.length >= 0 && b.read > b.length, err == io.EOF && b.length >= 0 && b.read < b.length:
		return n, errLength
	case err == io.EOF && b.request.Trailer != nil:
		if end := b.stream.Trailer(); end != nil {
			relay.StripTrailer(end.Trailer)
			for name := range b.request.Trailer {
				b.request.Trailer[name] = end.Trailer[name]
			}
		}
	}
	return n, err
}

// Close does nothing: what the handler leaves unread ends with the stream.
func (b *requestBody) Close() error { return nil }

// wholeBody is the body of a relayed request that came with the head. Forward knows it: a body that net/http knows to be in
// memory leaves in one write with the head, and wakes the app once.
type wholeBody struct{ bytes.Reader }

func newWholeBody(b []byte) *wholeBody {
	w := new(wholeBody)
	w.Reset(b)
	return w
}

func (*wholeBody) Close() error { return nil }
