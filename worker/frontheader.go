package worker

import (
	"bufio"
	"net"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/obo-relay/obo-relay/relay"
)

// connectionHeaders are what the platform says of the browser's connection.
func connectionHeaders() []string {
	return []string{"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-For", "X-Real-Ip"}
}

// header is what the app gets of a request's header: without what may not cross (PROTOCOL.md §9), in any spelling, and
// with identity, token and request id from the worker's own knowledge.
func (f *Front) header(r *http.Request, id relay.ID, token relay.Token, user *User) http.Header {
	h := r.Header.Clone()
	requestID := relay.RequestID(h, id)
	relay.StripRequest(h)
	for _, name := range connectionHeaders() {
		if values := r.Header[name]; len(values) > 0 {
			h[name] = values
		}
	}
	if opensWebSocket(r) {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	f.w.cfg.IdentityHeaders.apply(h, user)
	h[relay.HeaderAccessToken] = []string{token.Reveal()}
	h[relay.HeaderRequestID] = []string{requestID}
	return h
}

// opensWebSocket reports a WebSocket's opening handshake (RFC 6455 §4.1). Any other upgrade is ignored, as HTTP allows:
// through one to h2c, say, requests would reach the app that nobody has judged.
func opensWebSocket(r *http.Request) bool {
	upgrade := r.Header["Upgrade"]
	return r.Method == http.MethodGet && r.ContentLength == 0 && len(upgrade) == 1 && strings.EqualFold(upgrade[0], "websocket") &&
		httpguts.HeaderValuesContainsToken(r.Header["Connection"], "upgrade")
}

// frontWriter notes what was answered.
type frontWriter struct {
	http.ResponseWriter
	id      relay.ID
	status  int
	written int64
	code    relay.Code // of a refusal or failure; empty for the app's own reply
}

func (w *frontWriter) WriteHeader(status int) {
	if status >= 200 && w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *frontWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	return n, err
}

// Hijack hands over the connection of a WebSocket, whose bytes are not counted.
func (w *frontWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap is for http.ResponseController.
func (w *frontWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
