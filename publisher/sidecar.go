package publisher

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// SidecarConfig configures a Sidecar.
type SidecarConfig struct {
	Transport *Transport // Required.
	Service   string     // where all requests go. Required.
	// Via is what the requests go through in place of Transport itself, around it: for traces and metrics.
	Via http.RoundTripper
	// AllowHosts are values of the Host header, besides loopback addresses and localhost, that may be used.
	AllowHosts []string
	Log        *slog.Logger // Defaults to slog.Default()
}

// NewSidecar returns the handler that an app in another language calls on loopback: every request goes to one service,
// with the token that the request itself carries. Failures are application/problem+json (RFC 9457) with a code.
//
// A web page in a browser on the same machine must not reach it: a Host header that is not a loopback name, an Origin or a
// Sec-Fetch-Site header are refused.
func NewSidecar(c SidecarConfig) (http.Handler, error) {
	if c.Transport == nil {
		return nil, errors.New("sidecar: no transport")
	}
	if !c.Transport.directory.known(c.Service) {
		return nil, errors.New("the service " + strconv.Quote(safeName(c.Service)) + " of --route is not in the trust file; it names " + strings.Join(c.Transport.Services(), ", "))
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Via == nil {
		c.Via = c.Transport
	}
	s := &sidecar{c: c}
	s.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", c.Service
			r.Out.URL.RawQuery = r.In.URL.RawQuery // ReverseProxy drops what it cannot parse
			r.Out.Header = r.In.Header             // the Transport strips a copy, and wants to see what was asked
			r.Out.Trailer = r.In.Trailer           // the server fills in that map when the body has been read
		},
		Transport: c.Via,
		ModifyResponse: func(resp *http.Response) error {
			closeUnread(resp.Request, resp.Header)
			return nil
		},
		ErrorHandler:  s.fail,
		ErrorLog:      slog.NewLogLogger(c.Log.Handler(), slog.LevelWarn),
		BufferPool:    newBuffers(),
		FlushInterval: -1, // what has come is passed on: a small reply comes whole, a large one in pieces worth a write
	}
	return s, nil
}

type sidecar struct {
	c     SidecarConfig
	proxy *httputil.ReverseProxy
}

func (s *sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.guard(r); err != nil {
		s.fail(w, r, err)
		return
	}
	s.proxy.ServeHTTP(relay.Unguessed(w), duplex(w, r))
}

// guard refuses what only a browser sends, and what cannot be relayed.
func (s *sidecar) guard(r *http.Request) error {
	switch {
	case !s.allowed(r.Host):
		return relay.NewError(relay.CodeBrowserRefused, "the Host header names neither loopback nor an allowed host")
	case len(r.Header["Origin"]) > 0 || len(r.Header["Sec-Fetch-Site"]) > 0:
		return relay.NewError(relay.CodeBrowserRefused, "the request comes from a web page (it has an Origin or Sec-Fetch-Site header)")
	case len(r.Header["Upgrade"]) > 0:
		return relay.NewError(relay.CodeUpgradeUnsupported, "the request asks for an upgrade of the connection")
	case r.Method == http.MethodConnect || !strings.HasPrefix(r.RequestURI, "/"):
		return relay.NewError(relay.CodeBadRequest, "the request target is not a path")
	}
	return nil
}

// allowed reports whether a Host header is a name of this listener, against DNS rebinding.
func (s *sidecar) allowed(host string) bool {
	name := host
	if h, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "" {
			return false
		}
		name = h
	}
	return relay.LoopbackHost(host) || slices.Contains(s.c.AllowHosts, host) || slices.Contains(s.c.AllowHosts, strings.Trim(name, "[]"))
}

// fail answers with a problem document.
func (s *sidecar) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := relay.AsError(err)
	s.c.Log.Warn("request failed", "request_id", e.RequestID, "service", s.c.Service, "method", r.Method, "code", string(e.Code), "error", e.Error())
	problem := e.Problem()
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	closeUnread(r, h)
	if e.RequestID != "" {
		h.Set(relay.HeaderOboID, e.RequestID)
	}
	if e.After > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.After+time.Second-1)/time.Second)))
	}
	w.WriteHeader(problem.Status)
	if r.Method != http.MethodHead {
		_ = json.NewEncoder(w).Encode(problem) // the caller may have left
	}
}

// copyBuffer is the size of a full frame.
const copyBuffer = relay.MaxFrame

// buffers is ReverseProxy's pool of copy buffers, and that of uploads.
type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{sync.Pool{New: func() any { return new([copyBuffer]byte) }}}
}

func (b *buffers) Get() []byte  { return b.pool.Get().(*[copyBuffer]byte)[:] }
func (b *buffers) Put(p []byte) { b.pool.Put((*[copyBuffer]byte)(p)) }
