package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// Forward returns a handler that hands requests to the middleware app at base (http://127.0.0.1:8000, say), as they are:
// the worker has set the X-Forwarded-* headers already. Redirects are passed on, not followed; one to the app itself, as it
// was called, becomes one to a path, since its address leads elsewhere at the caller's. Where the app cannot be reached at
// all the request counts as not started. Each of wrap goes around the connections to the app: for traces.
func Forward(base *url.URL, log *slog.Logger, wrap ...func(http.RoundTripper) http.RoundTripper) (http.Handler, error) {
	proxy, err := forwarder(base, log, wrap)
	if err != nil {
		return nil, err
	}
	proxy.ErrorLog = errorLog(log, slog.LevelDebug) // names no request, and callers who left: see panicked
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer blameApp(w, r)
		proxy.ServeHTTP(relay.Unguessed(w), r)
	}), nil
}

// blameApp tells the caller that the app broke off its reply, of which ReverseProxy says nothing but that it panics.
func blameApp(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == http.ErrAbortHandler && r.Context().Err() == nil {
		Fail(w, relay.NewError(relay.CodeUpstreamFailed, "the middleware app broke off its reply"))
	}
	if p != nil {
		panic(p)
	}
}

// forwarder is the proxy of Forward, which the front door shares.
func forwarder(base *url.URL, log *slog.Logger, wrap []func(http.RoundTripper) http.RoundTripper) (*httputil.ReverseProxy, error) {
	if base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, fmt.Errorf("--forward %q: want the URL of the middleware app, for example http://127.0.0.1:8000", base.Redacted())
	}
	if base.RawQuery != "" || base.Fragment != "" || base.User != nil || base.Path != "" && base.Path != "/" {
		return nil, fmt.Errorf("--forward %q: want scheme, host and port only", base.Redacted())
	}
	origin := &url.URL{Scheme: base.Scheme, Host: base.Host}
	self := origin.String()
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	var transport http.RoundTripper = &http.Transport{ // no Proxy: the token goes to the app and nowhere else
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return newPatient(conn), nil
		},
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     4 * time.Second, // uvicorn closes idle connections after 5 s; be first
		DisableCompression:  true,
	}
	for _, around := range wrap {
		transport = around(transport)
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = origin.Scheme, origin.Host
			r.Out.URL.RawQuery = r.In.URL.RawQuery // ReverseProxy drops what it cannot parse
			r.Out.Host = ""
			if whole, ok := r.In.Body.(*wholeBody); ok {
				own := whole.Reader // may be read after the handler has returned, unlike a server's
				r.Out.Body = io.NopCloser(&own)
			}
			r.Out = noteConnection(r.Out)
			r.Out.Trailer = r.In.Trailer // filled in when the body has been read, after ReverseProxy's copy
		},
		Transport: transport,
		ModifyResponse: func(resp *http.Response) error {
			if path, ok := pathAt(self, resp.Header.Get("Location")); ok {
				resp.Header.Set("Location", path)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) { Fail(w, upstreamError(r.Context(), err)) },
		ErrorLog:     errorLog(log, slog.LevelWarn),
		// For replies that come slowly although their length is known; those without a length are flushed at once anyway.
		FlushInterval: flushInterval,
		BufferPool:    &copyBuffers{sync.Pool{New: func() any { return new([copyBuffer]byte) }}},
	}, nil
}

// pathAt is what a reference to origin is without it. One that would lead to another host then has none: clients take // for
// the begin of a host, browsers also /\, and pass over tabs.
func pathAt(origin, reference string) (string, bool) {
	if len(reference) < len(origin) || !strings.EqualFold(reference[:len(origin)], origin) {
		return "", false
	}
	path := reference[len(origin):]
	if path == "" || path[0] == '?' || path[0] == '#' {
		path = "/" + path
	}
	return path, path[0] == '/' && !strings.HasPrefix(path, "//") && !strings.HasPrefix(path, `/\`) && !strings.Contains(path, "\t")
}

// copyBuffers is ReverseProxy's pool: without one it makes a buffer for each reply.
type copyBuffers struct{ pool sync.Pool }

const copyBuffer = relay.MaxFrame // so that frames are full

func (b *copyBuffers) Get() []byte  { return b.pool.Get().(*[copyBuffer]byte)[:] }
func (b *copyBuffers) Put(p []byte) { b.pool.Put((*[copyBuffer]byte)(p)) }

// flushInterval is how long a byte of a reply waits for more.
const flushInterval = 20 * time.Millisecond

// upstreamError tells apart what the caller may do next.
func upstreamError(ctx context.Context, err error) *relay.Error {
	if cause, ok := errors.AsType[*relay.Error](context.Cause(ctx)); ok {
		return cause
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return relay.Wrap(relay.CodeCanceled, err, "the caller left before the middleware app answered")
	}
	if e, ok := errors.AsType[*relay.Error](err); ok {
		return e // reading the request's body
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return relay.Errorf(relay.CodeBodyTooLarge, "the body is over the limit of %d bytes", e.Limit)
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" && !hadConnection(ctx) {
		return relay.Wrap(relay.CodeUpstreamDown, err, "nothing answers at the middleware app's address")
	}
	return relay.Wrap(relay.CodeUpstreamFailed, relay.UnquotedError(err), "the connection to the middleware app broke")
}

// errorLog is a log for net/http.
func errorLog(log *slog.Logger, level slog.Level) *stdlog.Logger {
	return stdlog.New(unquotedWriter{log, level}, "", 0)
}

type unquotedWriter struct {
	log   *slog.Logger
	level slog.Level
}

func (u unquotedWriter) Write(p []byte) (int, error) {
	u.log.Log(context.Background(), u.level, relay.Unquoted(string(p)))
	return len(p), nil
}

type connectionKey struct{}

// noteConnection notes when a request that net/http would send again by itself gets a connection: what it says of the last
// try proves nothing of those before.
func noteConnection(r *http.Request) *http.Request {
	if r.Body != nil && r.Body != http.NoBody || !relay.SafeMethod(r.Method) && r.Header[relay.HeaderIdempotencyKey] == nil && r.Header["X-Idempotency-Key"] == nil {
		return r
	}
	had := new(atomic.Bool)
	ctx := context.WithValue(r.Context(), connectionKey{}, had)
	return r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { had.Store(true) }}))
}

func hadConnection(ctx context.Context) bool {
	had, ok := ctx.Value(connectionKey{}).(*atomic.Bool)
	return ok && had.Load()
}
