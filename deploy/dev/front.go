package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
)

// front is the proxy before the UI app: to each request it adds what the platform would, for one person.
type front struct {
	tokens Tokens
	person sandbox.Person // without a token
	proxy  *httputil.ReverseProxy
	log    *slog.Logger
}

type tokenKey struct{}

func newFront(app *url.URL, person sandbox.Person, tokens Tokens, log *slog.Logger) *front {
	f := &front{tokens: tokens, person: person, log: log}
	f.proxy = &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(app)
			pr.Out.URL.RawQuery = pr.In.URL.RawQuery // ReverseProxy drops what it cannot parse
			for name := range pr.Out.Header {
				if sandbox.PlatformHeader(http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))) {
					delete(pr.Out.Header, name)
				}
			}
			who := f.person
			token, _ := pr.In.Context().Value(tokenKey{}).(relay.Token)
			who.Token = token.Reveal()
			sandbox.Introduce(pr, who)
		},
		Transport:     &http.Transport{DisableCompression: true}, // no Proxy: the token goes to the app and nowhere else
		ErrorHandler:  f.appFailed,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		FlushInterval: -1, // server-sent events arrive as they are sent
	}
	return f
}

func (f *front) close() { f.proxy.Transport.(*http.Transport).CloseIdleConnections() }

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := guard(r); err != nil {
		f.log.Warn("refused at the front proxy", "method", r.Method, "reason", err)
		http.Error(w, "obo dev: "+err.Error(), http.StatusForbidden)
		return
	}
	token, err := f.tokens.Token(r.Context())
	if err != nil {
		f.log.Error("there is no token of the person", "error", err)
		http.Error(w, "obo dev: there is no token of the person: "+err.Error(), http.StatusBadGateway)
		return
	}
	f.proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tokenKey{}, token)))
}

// appFailed answers while the app starts, and when it is gone.
func (f *front) appFailed(w http.ResponseWriter, r *http.Request, err error) {
	f.log.Debug("the UI app did not answer", "path", r.URL.Path, "error", err)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Refresh", "1") // a browser asks again by itself
	http.Error(w, "obo dev: the UI app does not answer yet. It is asked again every second; see what it printed.", http.StatusBadGateway)
}

// guard refuses what another web page in the developer's browser could send: to this proxy everybody is the person.
//
// A name that leads here by DNS rebinding is in Host. A page of another origin, also one on another port of this machine,
// is in Origin where it posts or opens a WebSocket, and in Sec-Fetch-Site (Fetch Metadata) everywhere; it may do no more
// than lead the browser here as to any address.
func guard(r *http.Request) error {
	if !relay.LoopbackHost(r.Host) {
		return errors.New("the Host header is not a loopback name: open the address that obo dev printed")
	}
	if origins, sent := r.Header["Origin"]; sent {
		if u, err := url.Parse(strings.Join(origins, ",")); err != nil || u.Scheme != "http" || u.Host != r.Host {
			return errors.New("the request comes from a page of another origin")
		}
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "", "none", "same-origin":
		return nil
	default:
		if safe := r.Method == http.MethodGet || r.Method == http.MethodHead; safe && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" {
			return nil
		}
		return fmt.Errorf("the request comes from another page (%.20q)", site)
	}
}

// dialTime is enough where anything answers at all.
const dialTime = time.Second

// dial tells whether anything accepts connections there.
func dial(ctx context.Context, address string) bool {
	conn, err := (&net.Dialer{Timeout: dialTime}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	_ = conn.Close() // it was opened only to see whether it can be
	return true
}
