package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server is a [Workspace] or a [Front] on a port of its own.
type Server struct {
	url      string
	listener net.Listener
	server   *http.Server
	grace    time.Duration
	cancel   context.CancelFunc
	closed   func()

	stop sync.Once
	done chan struct{}
	err  error // read after done
}

// Listen serves the workspace at addr, such as "127.0.0.1:0", from now until
// Close, and makes that address its URL. Call [Workspace.SetURL] afterwards if
// callers know it by another, as when listening on all addresses.
func (w *Workspace) Listen(addr string) (*Server, error) {
	return listen(addr, w, w.SetURL, func() {}, w.cfg.Log)
}

// listen binds, tells the handler its URL, serves in the background, and calls
// closed after the last request.
func listen(addr string, handler http.Handler, setURL func(string) error, closed func(), log *slog.Logger) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	base := "http://" + listener.Addr().String()
	if err := setURL(base); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		url: base, listener: listener, grace: 2 * time.Second, cancel: cancel, closed: closed, done: make(chan struct{}),
		server: &http.Server{
			Handler:           handler,
			ReadHeaderTimeout: 10 * time.Second,
			// A hijacked connection (WebSocket) is unknown to Shutdown; its
			// request context is not.
			BaseContext: func(net.Listener) context.Context { return ctx },
			ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}
	go func() {
		defer close(s.done)
		if err := s.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.err = err
		}
	}()
	return s, nil
}

// URL is the base URL of the server.
func (s *Server) URL() string { return s.url }

// Run waits until ctx ends or serving fails, then closes the server.
func (s *Server) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-s.done:
	}
	return s.Close()
}

// Close stops serving: requests under way get two seconds, WebSockets none. It
// returns when the listener has stopped, and may be called again.
func (s *Server) Close() error {
	s.stop.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.grace)
		defer cancel()
		stop := context.AfterFunc(ctx, s.cancel)
		defer stop()
		if s.server.Shutdown(ctx) != nil {
			_ = s.server.Close()
		}
		s.cancel()
		s.closed()
	})
	<-s.done
	return s.err
}
