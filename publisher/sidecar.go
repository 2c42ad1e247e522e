package publisher

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
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
	return &sidecar{c: c, buffers: newBuffers()}, nil
}

type sidecar struct {
	c       SidecarConfig
	buffers *buffers
}

func (s *sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := &served{w: relay.Unguessed(w)}
	if err := s.guard(r); err != nil {
		s.fail(call, r, err)
		return
	}
	out := call.request(r, s.c.Service)
	defer call.body.Close() // a Transport may read on for a moment, net/http's body must not be read any more
	resp, err := s.c.Via.RoundTrip(out)
	if err != nil {
		s.fail(call, r, err)
		return
	}
	defer resp.Body.Close()
	if err := s.reply(call, resp); err != nil {
		level := slog.LevelWarn
		if r.Context().Err() != nil {
			level = slog.LevelDebug // the caller left
		}
		s.c.Log.Log(r.Context(), level, "reply broken off", "request_id", resp.Header.Get(relay.HeaderOboID), "service", s.c.Service, "error", err)
		panic(http.ErrAbortHandler) // so that what came of it does not look whole
	}
}

// reply passes the reply on: a small one comes whole, any other in pieces worth a write each.
func (s *sidecar) reply(call *served, resp *http.Response) error {
	h := call.w.Header()
	maps.Copy(h, resp.Header)
	call.closeUnread(h)
	declared := len(resp.Trailer)
	if declared > 0 {
		h["Trailer"] = slices.Sorted(maps.Keys(resp.Trailer))
	}
	call.w.WriteHeader(resp.StatusCode)
	var to io.Writer = struct{ io.Writer }{call.w} // of which io.Copy knows nothing but Write
	if call.streamed {
		flush := http.NewResponseController(call.w)
		_ = flush.Flush() // the head, before there is a body; a fault shows at the next write
		to = flushing{call.w, flush}
	}
	buf := s.buffers.Get()
	defer s.buffers.Put(buf)
	if _, err := io.CopyBuffer(to, resp.Body, buf); err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil { // trailers are complete now
		return err
	}
	prefix := ""
	if len(resp.Trailer) != declared {
		prefix = http.TrailerPrefix // some were not declared
	}
	for name, values := range resp.Trailer {
		h[prefix+name] = values
	}
	return nil
}

// guard refuses what only a browser sends, and what cannot be relayed.
func (s *sidecar) guard(r *http.Request) error {
	switch {
	case !s.allowed(r.Host):
		return relay.NewError(relay.CodeBrowserRefused, "the Host header names neither loopback nor an allowed host")
	case len(r.Header["Origin"]) > 0 || len(r.Header["Sec-Fetch-Site"]) > 0:
		return relay.NewError(relay.CodeBrowserRefused, "the request comes from a web page (it has an Origin or Sec-Fetch-Site header)")
	case upgrades(r.Header):
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
func (s *sidecar) fail(call *served, r *http.Request, err error) {
	e := relay.AsError(err)
	s.c.Log.Warn("request failed", "request_id", e.RequestID, "service", s.c.Service, "method", r.Method, "code", string(e.Code), "error", e.Error())
	problem := e.Problem()
	h := call.w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	call.closeUnread(h)
	if e.RequestID != "" {
		h.Set(relay.HeaderOboID, e.RequestID)
	}
	if e.After > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.After+time.Second-1)/time.Second)))
	}
	call.w.WriteHeader(problem.Status)
	if r.Method != http.MethodHead {
		_ = json.NewEncoder(call.w).Encode(problem) // the caller may have left
	}
}

// copyBuffer is the size of a full frame.
const copyBuffer = relay.MaxFrame

// buffers are for bodies on their way, up and down.
type buffers struct{ pool sync.Pool }

func newBuffers() *buffers {
	return &buffers{sync.Pool{New: func() any { return new([copyBuffer]byte) }}}
}

func (b *buffers) Get() []byte  { return b.pool.Get().(*[copyBuffer]byte)[:] }
func (b *buffers) Put(p []byte) { b.pool.Put((*[copyBuffer]byte)(p)) }
