package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// Front serves the app's own port, where the platform's front door leads, so that nobody reaches the app past the policy.
// It finds out whose token the platform passed on, asks the policy, as for a relayed request, and hands the request to the
// app on loopback. What may cross is what may cross the relay, but for a request's trailers, plus WebSockets, the Host header
// and what the platform says of the browser's connection (X-Forwarded-Host, -Proto, -Port, -For, X-Real-Ip).
//
// A WebSocket is judged when it is opened, and lives on when the policy, the person's groups or the token change.
type Front struct {
	w       *Worker
	proxy   *httputil.ReverseProxy
	serving sync.WaitGroup
}

var _ http.Handler = (*Front)(nil)

// NewFront returns the front door of a worker's app. The app must be on loopback, or others could reach it directly, and
// the worker must look people up, since otherwise nobody would have verified a token. wrap is Forward's.
func NewFront(w *Worker, app *url.URL, wrap ...func(http.RoundTripper) http.RoundTripper) (*Front, error) {
	proxy, err := forwarder(app, w.log, wrap)
	if err != nil {
		return nil, err
	}
	if !relay.Loopback(app.Hostname()) {
		return nil, fmt.Errorf("--front: the app at %s is not on loopback, so it could be reached past the policy: let it listen on 127.0.0.1, and name that with --forward", app.Host)
	}
	if w.cfg.Lookup == nil {
		return nil, errors.New("--front needs the look-up of users, since nobody else verifies the tokens that come to it: use --user-lookup=on")
	}
	f := &Front{w: w, proxy: proxy}
	rewrite := proxy.Rewrite
	proxy.Rewrite = func(r *httputil.ProxyRequest) {
		rewrite(r)
		r.Out.Host = r.In.Host // apps compare it with Origin
		r.Out.Trailer = nil    // some servers add them to the header, past what was done to that
		for _, name := range connectionHeaders() {
			if values := r.In.Header[name]; len(values) > 0 {
				r.Out.Header[name] = values // ReverseProxy drops some of them
			}
		}
	}
	proxy.ErrorHandler = func(rw http.ResponseWriter, r *http.Request, err error) {
		f.fail(rw, r, upstreamError(r.Context(), err))
	}
	return f, nil
}

// ServeHTTP judges a request and hands it to the app.
func (f *Front) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	f.serving.Add(1)
	defer f.serving.Done()
	if r.URL.Path == ProbePath || r.URL.Path == ProbePathAPI {
		Probe(rw, r)
		return
	}
	start := f.w.cfg.Now()
	id := relay.NewID()
	path, _, _ := strings.Cut(r.RequestURI, "?")
	record := f.w.audit.record(id, AuditFront, r.Method, path, start)
	out := &frontWriter{ResponseWriter: relay.Unguessed(rw), id: id}
	var received atomic.Int64
	r, ended := f.observe(r, id, record)
	returned := false
	defer func() { // also when ReverseProxy panics because the app broke off, or the caller left
		if !returned {
			out.code = upstreamError(r.Context(), nil).Code
		}
		took := f.w.cfg.Now().Sub(start)
		record.ended(out.status, out.code, took, received.Load(), out.written)
		if ended != nil {
			ended(RequestEnd{out.status, out.code, received.Load(), out.written})
		}
		user := ""
		if record.User != nil {
			user = record.User.Name
		}
		f.w.log.Info("request", "via", AuditFront, "request_id", id.String(), "method", record.Method, "path", record.Path,
			"user", user, "status", out.status, "code", string(out.code), "bytes", out.written, "ms", took.Milliseconds())
		f.w.audit.end(record)
	}()
	next, err := f.admit(r, id, path, record)
	if err != nil {
		f.fail(out, r, err)
		returned = true
		return
	}
	if most := f.w.cfg.MaxBody; most > 0 && next.Body != http.NoBody {
		next.Body = http.MaxBytesReader(out, next.Body, most)
	}
	next.Body = counted(next.Body, &received)
	f.proxy.ServeHTTP(out, next)
	returned = true
}

// admit makes the checks of a relayed request, as far as they apply, and returns the request that the app is to get.
func (f *Front) admit(r *http.Request, id relay.ID, path string, record *AuditRecord) (*http.Request, *relay.Error) {
	token, err := f.check(r, path)
	if err != nil {
		return nil, err
	}
	v := f.w.gate.judge(r.Context(), id, token, r.Method, r.URL.EscapedPath()) // what is forwarded: net/http may write a path anew
	record.judged(v)
	if v.refusal != nil {
		return nil, v.refusal
	}
	if err := f.w.audit.start(r.Context(), record); err != nil {
		return nil, err
	}
	next := r.WithContext(withUser(r.Context(), v.user))
	next.Header = f.header(r, id, token, v.user)
	return next, nil
}

// check is what can be refused before anybody is asked.
func (f *Front) check(r *http.Request, path string) (relay.Token, *relay.Error) {
	if !relay.ValidMethod(r.Method) || !strings.HasPrefix(r.RequestURI, "/") {
		return relay.Token{}, relay.NewError(relay.CodeBadRequest, "the method is not one that is served, or the request target is not a path")
	}
	if err := relay.CheckPath(path); err != nil {
		return relay.Token{}, relay.AsError(err)
	}
	if most := f.w.cfg.MaxBody; most > 0 && r.ContentLength > most {
		return relay.Token{}, relay.Errorf(relay.CodeBodyTooLarge, "the body is over this worker's limit of %d bytes", most)
	}
	values := r.Header[relay.HeaderAccessToken]
	switch {
	case len(values) == 0:
		return relay.Token{}, relay.NewError(relay.CodeTokenMissing, "the platform passed no access token on")
	case len(values) > 1:
		return relay.Token{}, relay.NewError(relay.CodeTokenAmbiguous, "there is more than one access token")
	}
	token, err := relay.NewToken(values[0])
	if err != nil {
		return relay.Token{}, relay.AsError(err)
	}
	return token, f.w.gate.check(token)
}

// fail answers with a problem document.
func (f *Front) fail(rw http.ResponseWriter, r *http.Request, e *relay.Error) {
	if out, ok := rw.(*frontWriter); ok {
		named := *e // others may be reading it: it may be the cause of all contexts' end
		e, named.RequestID = &named, out.id.String()
		out.code = e.Code
		if e.Code.Info().Status >= http.StatusInternalServerError {
			f.w.log.Warn("request failed", "via", AuditFront, "request_id", e.RequestID, "code", string(e.Code), "error", e)
		}
	}
	rw.Header().Set("Cache-Control", "no-store")
	Fail(rw, e)
}

// Serve serves a listener until ctx ends, then lets requests under way end within DrainTimeout, closes WebSockets, and
// waits for all of it.
func (f *Front) Serve(ctx context.Context, l net.Listener) error {
	life, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	end := func() {
		cut(relay.NewError(relay.CodeHandlerFailed, "the worker stopped while the request was under way"))
	}
	defer end()
	server := &http.Server{
		Handler: f, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return life },
		ErrorLog:    f.proxy.ErrorLog,
		// net/http would answer OPTIONS * without asking.
		DisableGeneralOptionsHandler: true,
	}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(relay.Patient(l, f.w.log)) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("--front: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(life, f.w.cfg.DrainTimeout)
	defer cancel()
	err := server.Shutdown(drain)
	end() // WebSockets, of which Shutdown knows nothing
	if err != nil {
		f.w.log.Warn("the time to drain is over: requests at the front door are broken off")
		_ = server.Close() // its listener is closed already
	}
	<-stopped
	f.serving.Wait()
	f.close()
	return nil
}

// close ends idle connections to the app.
func (f *Front) close() {
	if t, ok := f.proxy.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
