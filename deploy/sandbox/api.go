package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Headers of every workspace response.
const (
	requestIDHeader   = "X-Databricks-Request-Id"
	workspaceIDHeader = "X-Databricks-Org-Id"
)

// ServeHTTP answers as the workspace: it plays a fault if one is due, then the
// API, and counts the call either way.
func (w *Workspace) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	call := &Call{Method: r.Method, Path: r.URL.Path}
	requestID := newUUID()
	rw.Header().Set(requestIDHeader, requestID)
	rw.Header().Set(workspaceIDHeader, w.cfg.ID)
	recorder := &statusRecorder{ResponseWriter: rw}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, call))
	w.identify(r, call)
	defer func() {
		call.Status = recorder.status
		w.calls.add(*call)
		w.cfg.Log.Debug("call", "principal", call.Principal, "method", call.Method, "path", call.Path,
			"status", call.Status, "request_id", requestID)
	}()
	if w.Faults.play(recorder, r, w.URL(), w.mux) {
		return
	}
	w.mux.ServeHTTP(recorder, r)
}

type callKey struct{}

// callOf is the call being answered, for handlers that learn later who calls.
func callOf(r *http.Request) *Call {
	call, _ := r.Context().Value(callKey{}).(*Call)
	return call
}

// identify notes whose token a request carries, valid or not, so that a refused
// call counts for the right principal.
func (w *Workspace) identify(r *http.Request, call *Call) {
	token, ok := bearer(r)
	if !ok {
		return
	}
	c, err := w.mint.read(token, w.cfg.ID)
	if err != nil {
		return
	}
	w.noteCaller(call, c.Subject)
}

func (w *Workspace) noteCaller(call *Call, name string) {
	if p, ok := w.directory.lookup(name); ok {
		call.Principal, call.ServicePrincipal = p.name, p.servicePrincipal
	}
}

// api registers a workspace API that needs a token with the scope.
func (w *Workspace) api(pattern, scope string, handle func(http.ResponseWriter, *http.Request, principal)) {
	w.mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
		token, ok := bearer(r)
		if !ok {
			writeError(rw, http.StatusUnauthorized, http.StatusUnauthorized,
				"Credential was not sent or was of an unsupported type for this API.")
			return
		}
		p, c, err := w.authenticate(token)
		switch {
		case errors.Is(err, errTokenExpired):
			writeError(rw, http.StatusUnauthorized, http.StatusUnauthorized, "Token is expired.")
		case err != nil:
			writeError(rw, http.StatusUnauthorized, http.StatusUnauthorized, "Invalid access token.")
		case p.inactive:
			writeError(rw, http.StatusForbidden, "PERMISSION_DENIED", "User is inactive.")
		case !c.has(scope):
			writeError(rw, http.StatusForbidden, "PERMISSION_DENIED",
				"Provided OAuth token does not have required scopes: "+scope)
		default:
			handle(rw, r, p)
		}
	})
}

// authenticate tells whose token it is, if it counts now.
func (w *Workspace) authenticate(token string) (principal, claims, error) {
	c, err := w.mint.check(token, w.cfg.ID)
	if err != nil {
		return principal{}, claims{}, err
	}
	p, ok := w.directory.lookup(c.Subject)
	if !ok {
		return principal{}, claims{}, errTokenInvalid
	}
	return p, c, nil
}

// bearer is the request's bearer token (RFC 6750 section 2.1).
func bearer(r *http.Request) (string, bool) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// writeError answers as the platform's gateway does: code is a number in the
// answers of the gateway, a word in those of a service.
func writeError(rw http.ResponseWriter, status int, code any, message string) {
	message = fmt.Sprintf("%s [ReqId: %s]", message, rw.Header().Get(requestIDHeader))
	writeJSON(rw, status, map[string]any{"error_code": code, "message": message})
}

func writeJSON(rw http.ResponseWriter, status int, body any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(body) // a caller that left is no fault of ours
}

// statusRecorder remembers the status, and can be unwrapped for the rest.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (s *statusRecorder) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *statusRecorder) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s.ResponseWriter.Write(b)
}

func (s *statusRecorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }
