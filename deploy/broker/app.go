package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/net/http/httpguts"

	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

// App makes the broker an app of a platform that gives it one port: NATS over WebSocket and a page for people at
// brokerapp.Path, and at all other paths the same page, or another app.
type App struct {
	// Listen is the host:port that the platform's proxy connects to; TLS ends there.
	Listen string
	// Behind is the address of an app that gets every other request. Defaults to none.
	Behind *url.URL
	// Name of the app, for the commands on the page. Defaults to "obo-broker".
	Name string
}

// appServer serves the app's port.
type appServer struct {
	listener net.Listener
	http     *http.Server
}

// websocketOptions are for a listener that only this process connects to.
func websocketOptions() server.WebsocketOpts {
	return server.WebsocketOpts{Host: "127.0.0.1", Port: -1, NoTLS: true, SameOrigin: true}
}

// listenApp takes the app's port, so that whoever asks too early waits rather than being refused.
func (b *Broker) listenApp() (net.Listener, error) {
	listener, err := net.Listen("tcp", b.cfg.App.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &startError{fmt.Sprintf("broker: %v: another program listens there; stop it or choose another port", err), syscall.EADDRINUSE}
	}
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	return listener, nil
}

// newAppServer answers for a server that serves.
func (b *Broker) newAppServer(listener net.Listener) *appServer {
	errorLog := slog.NewLogLogger(b.cfg.Log.Handler(), slog.LevelDebug)
	nats := &httputil.ReverseProxy{
		Rewrite: b.toNATS, ErrorLog: errorLog, Transport: &http.Transport{DisableKeepAlives: true},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "the NATS server does not answer", http.StatusBadGateway)
		},
	}
	rest, status := bodyless(b.page), bodyless(b.status)
	if b.cfg.App.Behind != nil {
		rest = b.behind(errorLog)
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != brokerapp.Path:
			rest.ServeHTTP(w, r)
		case r.ContentLength == 0 && httpguts.HeaderValuesContainsToken(r.Header["Upgrade"], "websocket"):
			nats.ServeHTTP(w, r)
		default:
			status.ServeHTTP(w, r)
		}
	}
	return &appServer{listener, &http.Server{
		Handler: http.HandlerFunc(handler), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: errorLog,
	}}
}

// bodyTime is for a body that nobody reads.
const bodyTime = time.Second

// bodyless is a handler that reads no body. net/http reads what is left of one before it answers, and would wait for ever.
func bodyless(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // the connection's own; it is one over TCP
		}
		next(w, r)
	})
}

// toNATS passes on what belongs to the upgrade, and neither token nor cookie.
func (b *Broker) toNATS(p *httputil.ProxyRequest) {
	p.SetURL(&url.URL{Scheme: "http", Host: strings.TrimPrefix(b.server.WebsocketURL(), "ws://")})
	p.Out.URL.Path, p.Out.URL.RawPath, p.Out.URL.RawQuery = "/", "", ""
	p.Out.Host = p.In.Host // which nats-server compares with a browser's Origin
	header := http.Header{"User-Agent": {""}}
	for _, name := range []string{"Connection", "Upgrade", "Origin", "Sec-Websocket-Key", "Sec-Websocket-Version"} {
		if values := p.In.Header[name]; values != nil {
			header[name] = values
		}
	}
	if ip := p.In.Header.Get("X-Real-Ip"); net.ParseIP(ip) != nil {
		header.Set("X-Forwarded-For", ip) // shown by nats server report connections
	}
	p.Out.Header = header
}

// behind hands requests to the app behind as the platform's proxy sent them.
func (b *Broker) behind(errorLog *log.Logger) http.Handler {
	target := b.cfg.App.Behind
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.Host = p.In.Host
			p.Out.URL.RawQuery = p.In.URL.RawQuery // ReverseProxy drops what it cannot parse
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if values := p.In.Header[name]; values != nil {
					p.Out.Header[name] = values
				}
			}
		},
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: 30 * time.Second},
		FlushInterval: -1, ErrorLog: errorLog,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "the app behind obo-broker does not answer", http.StatusBadGateway)
		},
	}
}

// serve returns when the server was closed, or with the reason why it cannot go on.
func (a *appServer) serve() error {
	if err := a.http.Serve(a.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("broker: %w", err)
	}
	return nil
}

// close lets what is under way end. The WebSockets are nats-server's to close.
func (a *appServer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if a.http.Shutdown(ctx) != nil {
		_ = a.http.Close() // its time is over
	}
}

// withDefaults fills in what is left out.
func (a App) withDefaults() App {
	a.Name = cmp.Or(a.Name, "obo-broker")
	return a
}
