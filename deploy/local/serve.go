package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// Listen refuses an address that others could reach. why ends the sentence that says so.
func Listen(address, why string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w (want for example 127.0.0.1:8080)", err)
	}
	if !relay.Loopback(host) {
		return nil, fmt.Errorf("listen: %s is not a loopback address: %s, so it stays on this machine (127.0.0.1:PORT)", address, why)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w: stop the program that listens there, or choose another address", err)
	}
	return listener, nil
}

// Serve serves a handler on a free port until Close, and returns its URL.
func (r *Relay) Serve(h http.Handler) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	r.ServeOn(listener, h)
	return "http://" + listener.Addr().String(), nil
}

// ServeOn serves a handler until Close, which cuts off what is under way.
func (r *Relay) ServeOn(listener net.Listener, h http.Handler) {
	r.OnClose(serveOn(listener, h, r.log))
}

func serveOn(listener net.Listener, h http.Handler, log *slog.Logger) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
		// net/http would answer OPTIONS * without asking.
		DisableGeneralOptionsHandler: true,
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	return func() error {
		cancel()
		err := server.Close()
		if e := <-done; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
		return err
	}
}

// FreePort is a port that nobody listens on at the moment: one under those that systems give to outgoing connections (from
// 32768 on Linux, 49152 elsewhere), of which one could take it before it is used.
func FreePort() (port int, err error) {
	for range 100 {
		port = 16384 + rand.IntN(16384)
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

func parseBase(app string) (*url.URL, error) {
	base, err := url.Parse(app)
	if err != nil { // its text quotes the URL, and that may hold a password
		return nil, errors.New("the app's address is not a URL: want for example http://127.0.0.1:8000")
	}
	return base, nil
}
