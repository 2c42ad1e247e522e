package worker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// api calls the workspace's REST API as the person. What the workspace answers, refusals too, is passed on as it is; only
// redirects and pages for people become errors of the relay.
func (s *Routes) api(w http.ResponseWriter, r *http.Request, token relay.Token, path string) {
	switch {
	case !s.allowed(path):
		refuse(w, relay.NewError(relay.CodeForbidden, "this worker's operator has not allowed this part of the workspace's API (--workspace-api)"))
		return
	case r.Method == http.MethodTrace || r.Method == http.MethodConnect:
		refuse(w, relay.NewError(relay.CodeBadRequest, "the workspace's API has no such method"))
		return
	}
	target := path
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	resp, err := s.forward(r, token, target)
	if err != nil {
		e, acted := bodyError(r.Context(), token, err)
		end(w, e, acted && !safe(r.Method))
		return
	}
	defer func() { _ = resp.Body.Close() }() // a read-only body
	passOn(w, resp)
}

// allowed matches whole segments of the very path that is sent. It has no semicolon, where some servers cut a segment off:
// ..; would be a dot segment then.
func (s *Routes) allowed(path string) bool {
	if strings.Contains(path, ";") {
		return false
	}
	for _, prefix := range s.cfg.API {
		if path == prefix || strings.HasPrefix(path, prefix+"/") {
			return true
		}
	}
	return false
}

func safe(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

func (s *Routes) forward(r *http.Request, token relay.Token, target string) (*http.Response, error) {
	var body io.Reader
	if r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 {
		body = &knownLength{Reader: r.Body, length: r.ContentLength}
	}
	resp, err := s.cfg.Workspace.do(r.Context(), token, r.Method, target, apiHeader(r.Header), body, s.cfg.Workspace.cfg.RetryTimeout)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 && isHTML(resp.Header) {
		defer discard(resp)
		return nil, &callFault{reason: "the workspace answered with an HTML page instead of its API", header: resp.Header}
	}
	return resp, nil
}

// apiHeader takes what the API may need of a request. It is a list of what passes, since the workspace takes credentials
// and other people's names from more headers than are documented.
func apiHeader(in http.Header) http.Header {
	out := http.Header{}
	for _, name := range []string{
		"Accept", "Accept-Language", "Content-Type", "Content-Encoding", "Content-Language",
		"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range", relay.HeaderIdempotencyKey, "Traceparent",
	} {
		if values := in[name]; len(values) > 0 {
			out[name] = values
		}
	}
	return out
}

// knownLength is a body whose length net/http cannot find out by itself. Closing it does nothing: it is the caller's.
type knownLength struct {
	io.Reader
	length int64 // -1 = not known
}

// passOn streams the workspace's answer.
func passOn(w http.ResponseWriter, resp *http.Response) {
	relay.StripReply(resp.Header)
	for _, name := range []string{"Set-Cookie", "Set-Cookie2", "Alt-Svc", "Clear-Site-Data", "Strict-Transport-Security", "Cache-Control"} {
		delete(resp.Header, name)
	}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	if err := copyFlushing(w, resp.Body); err != nil {
		breakOff(w, relay.NewError(relay.CodeWorkspaceFailed, "the workspace broke its answer off"))
	}
}

// apiFlush is the longest time that a part of a streamed answer waits for more.
const apiFlush = 100 * time.Millisecond

// copyFlushing passes on what comes at once where it comes slowly, and in large pieces where it comes fast.
func copyFlushing(w http.ResponseWriter, body io.Reader) error {
	flusher := http.NewResponseController(w)
	buffer := make([]byte, 32<<10)
	last := time.Now()
	for {
		n, err := body.Read(buffer)
		if n > 0 {
			if _, writeErr := w.Write(buffer[:n]); writeErr != nil {
				return nil // the caller has left
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if now := time.Now(); n < len(buffer) || now.Sub(last) > apiFlush {
			last = now
			_ = flusher.Flush() // shows in the next write
		}
	}
}

// bodyError is callError, but for a request whose own body broke.
func bodyError(ctx context.Context, token relay.Token, err error) (*relay.Error, bool) {
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return relay.Errorf(relay.CodeBodyTooLarge, "the body is over the limit of %d bytes", e.Limit), true
	}
	return callError(ctx, token, err)
}
