package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/deploy/local"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/child"
	"github.com/obo-relay/obo-relay/worker"
)

// meTimeout is how long it may take to find out who the person is.
const meTimeout = 30 * time.Second

// Run starts everything, then the UI app, and returns the app's exit status when it has ended, or when ctx has and the app
// was stopped; then everything else is stopped too. err is to be told before.
func Run(ctx context.Context, cfg Config) (status int, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return 1, err
	}
	s := &stage{Relay: local.New(cfg.Log), cfg: cfg}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.start(ctx); err != nil {
		return 1, err
	}
	s.announce()
	if len(cfg.Command) == 0 {
		return 0, s.wait(ctx)
	}
	running := make(chan struct{})
	close(running)
	words := s.words()
	app := child.Config{Words: words, Env: child.Environ(cfg.Environ, words, s.variables()), KillRest: true, KeepHangup: true, Log: cfg.Log} // a closed terminal ends ctx
	return child.RunClient(ctx, app, running, s.wait)
}

// stage is what runs beside the UI app.
type stage struct {
	*local.Relay
	cfg     Config
	user    *worker.User
	front   net.Listener
	appPort int
	routes  []string // OBO_URL_<SERVICE>=http://127.0.0.1:PORT, in the order of cfg.Services
}

func (s *stage) start(ctx context.Context) error {
	workspace, lookup, err := s.Lookup(s.cfg.Workspace)
	if err != nil {
		return err
	}
	if err := s.findPerson(ctx, workspace); err != nil {
		return err
	}
	s.front, err = local.Listen(s.cfg.Listen, "whoever reaches it acts as "+s.user.UserName)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	s.OnClose(func() error { _ = s.front.Close(); return nil }) // closed already where it was served
	if err := s.startRelay(ctx, workspace, lookup); err != nil {
		return err
	}
	if s.appPort = s.cfg.AppPort; s.appPort == 0 {
		if s.appPort, err = local.FreePort(); err != nil {
			return err
		}
	}
	if len(s.cfg.Command) > 0 && dial(ctx, s.appAddress()) {
		return fmt.Errorf("--app-port %d: another program listens there and would get the token of %s: stop it, or leave the port out for a free one", s.appPort, s.user.UserName)
	}
	front := newFront(&url.URL{Scheme: "http", Host: s.appAddress()}, s.person(), s.cfg.Tokens, s.cfg.Log)
	s.OnClose(func() error { front.close(); return nil })
	s.ServeOn(s.front, front)
	return nil
}

// findPerson asks the workspace whose token it is: what fails for the person fails here, before anything is started.
func (s *stage) findPerson(ctx context.Context, workspace *worker.Workspace) error {
	ctx, cancel := context.WithTimeout(ctx, meTimeout)
	defer cancel()
	token, err := s.cfg.Tokens.Token(ctx)
	if err != nil {
		return err
	}
	s.user, err = workspace.Me(ctx, token)
	return err
}

func (s *stage) startRelay(ctx context.Context, workspace *worker.Workspace, lookup worker.Lookup) error {
	var names []string
	for _, service := range s.cfg.Services {
		names = append(names, service.Name)
	}
	s.BrokerLog = slog.New(loud{s.cfg.Log.Handler()})
	if err := s.StartBroker(ctx, setup.Config{Apps: []setup.App{{Name: s.cfg.App}}, Services: names}); err != nil {
		return err
	}
	for _, service := range s.cfg.Services {
		routes, err := s.Routes(service.URL, worker.RoutesConfig{Workspace: workspace})
		if err != nil {
			return fmt.Errorf("--service %s: %w", service.Name, err)
		}
		err = s.StartWorker(service.Name, func(c *worker.Config) {
			c.Handler, c.Lookup, c.Workspace = routes, lookup, workspace
			c.IdentityHeaders = worker.DefaultIdentityHeaders().WithWorkspace(s.cfg.WorkspaceID)
		})
		if err != nil {
			return err
		}
	}
	transport, err := s.StartPublisher(s.cfg.App, func(*publisher.Config) {})
	if err != nil {
		return err
	}
	for _, service := range s.cfg.Services {
		sidecar, err := publisher.NewSidecar(publisher.SidecarConfig{Transport: transport, Service: service.Name, Log: s.cfg.Log})
		if err != nil {
			return err
		}
		address, err := s.Serve(sidecar)
		if err != nil {
			return err
		}
		s.routes = append(s.routes, relay.URLVariable(service.Name)+"="+address)
	}
	return nil
}

// wait returns when ctx ends, or with the error of a part that has ended by itself.
func (s *stage) wait(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var told sync.WaitGroup
	defer told.Wait()
	defer cancel()
	told.Go(func() { s.tellWhenReady(ctx) })
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.Failed():
		return err
	}
}

func (s *stage) person() sandbox.Person {
	p := sandbox.Person{User: s.user.ID, UserName: s.user.UserName}
	if s.cfg.WorkspaceID != "" {
		p.User += "@" + s.cfg.WorkspaceID
	}
	if len(s.user.Emails) > 0 {
		p.Email = s.user.Emails[0]
	}
	return p
}

func (s *stage) appAddress() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.appPort)) }

// words are the command's with the one variable that the platform fills in.
func (s *stage) words() []string {
	words := slices.Clone(s.cfg.Command)
	for i, word := range words {
		words[i] = strings.NewReplacer("${DATABRICKS_APP_PORT}", strconv.Itoa(s.appPort), "$DATABRICKS_APP_PORT", strconv.Itoa(s.appPort)).Replace(word)
	}
	return words
}

// variables are those that the platform sets, and what obo-publisher would. Web frameworks take their address from theirs.
func (s *stage) variables() []string {
	port := strconv.Itoa(s.appPort)
	out := []string{
		"DATABRICKS_APP_NAME=" + s.cfg.App, "DATABRICKS_APP_PORT=" + port, "DATABRICKS_HOST=" + s.cfg.Workspace,
		"DATABRICKS_APP_URL=http://" + s.front.Addr().String(), "PORT=" + port, "PYTHONUNBUFFERED=1",
		"STREAMLIT_SERVER_PORT=" + port, "STREAMLIT_SERVER_ADDRESS=127.0.0.1", "STREAMLIT_SERVER_HEADLESS=true",
		"STREAMLIT_SERVER_ENABLE_CORS=false", "STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION=false", "STREAMLIT_BROWSER_GATHER_USAGE_STATS=false",
		"GRADIO_SERVER_PORT=" + port, "GRADIO_SERVER_NAME=127.0.0.1", "GRADIO_ANALYTICS_ENABLED=false",
		"UVICORN_PORT=" + port, "UVICORN_HOST=127.0.0.1", "FLASK_RUN_PORT=" + port, "FLASK_RUN_HOST=127.0.0.1",
	}
	if s.cfg.WorkspaceID != "" {
		out = append(out, "DATABRICKS_WORKSPACE_ID="+s.cfg.WorkspaceID)
	}
	return slices.Concat(out, child.NoProxy(s.cfg.Environ), s.routes)
}

// loud keeps a log to warnings and errors: that a server starts and ends is no news here.
type loud struct{ slog.Handler }

func (l loud) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && l.Handler.Enabled(ctx, level)
}

func (l loud) WithAttrs(attrs []slog.Attr) slog.Handler { return loud{l.Handler.WithAttrs(attrs)} }

func (l loud) WithGroup(name string) slog.Handler { return loud{l.Handler.WithGroup(name)} }
