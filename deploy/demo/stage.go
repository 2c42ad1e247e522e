package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/obo-relay/obo-relay/deploy/local"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// Config configures a Stage.
type Config struct {
	// Dir is where the relay's files go, as obo init makes them. Defaults to a directory that Close removes.
	Dir string
	// Log gets what all parts log. Defaults to a logger that discards.
	Log *slog.Logger

	breakWorker func(*worker.Config) // for tests: what goes wrong
}

// Stage is everything that the story needs, running. Start makes it, Close ends it.
type Stage struct {
	*local.Relay
	Workspace  *sandbox.Workspace
	UI         string // the UI app's front proxy, where browsers go
	Front      string // the middleware app's front proxy
	Sidecar    string // OBO_URL_MIDDLEWARE: the publisher beside the UI app
	uiDirect   string // the UI app itself, behind its front proxy
	middleware string // the middleware app itself

	log      *slog.Logger
	recorder *recorder
	probe    *probe
	client   *http.Client // of programs: follows no redirect
	browsers map[string]*browser
	tokens   *tokens
}

// patience is how long anything on the stage may take.
const patience = 10 * time.Second

// Start sets the stage and returns when a worker has announced itself.
func Start(ctx context.Context, cfg Config) (*Stage, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	s := &Stage{Relay: local.New(cfg.Log), log: cfg.Log, probe: newProbe(), client: newProgram(), tokens: newTokens()}
	s.browsers = map[string]*browser{VisitorAlice: newBrowser(Alice), VisitorBob: newBrowser(Bob)}
	s.OnClose(func() error {
		s.client.CloseIdleConnections()
		for _, b := range s.browsers {
			b.close()
		}
		return nil
	})
	for _, step := range []func(context.Context, Config) error{
		s.startBroker, s.startWorkspace, s.startMiddleware, s.startWorker, s.startPublisher, s.startUI, s.awaitWorker,
	} {
		if err := step(ctx, cfg); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func (s *Stage) startBroker(ctx context.Context, cfg Config) error {
	err := s.StartBroker(ctx, setup.Config{Dir: cfg.Dir, Apps: []setup.App{{Name: uiApp}}, Services: []string{middlewareApp}})
	if err != nil {
		return err
	}
	seed, err := relay.ReadSecretFile(s.Files.Inspector)
	if err != nil {
		return err
	}
	s.recorder, err = newRecorder(s.NATS, string(seed))
	if err == nil {
		s.OnClose(func() error { s.recorder.close(); return nil })
	}
	return err
}

func (s *Stage) startWorkspace(context.Context, Config) error {
	config := workspaceConfig()
	config.Log = s.log.With("part", "workspace")
	ws, err := sandbox.New(config)
	if err != nil {
		return err
	}
	server, err := ws.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	s.OnClose(server.Close)
	s.Workspace = ws
	return nil
}

func (s *Stage) startMiddleware(context.Context, Config) error {
	var err error
	s.middleware, err = s.Serve(newMiddleware(s.Workspace.URL(), s.client))
	if err != nil {
		return err
	}
	s.Front, err = s.startFront(middlewareApp, s.middleware)
	return err
}

func (s *Stage) startFront(app, upstream string) (string, error) {
	front, err := sandbox.NewFront(sandbox.FrontConfig{Workspace: s.Workspace, App: app, Upstream: upstream, Log: s.log.With("part", "front proxy")})
	if err != nil {
		return "", err
	}
	server, err := front.Listen("127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s.OnClose(server.Close)
	return server.URL(), nil
}

func (s *Stage) startUI(context.Context, Config) error {
	var err error
	s.uiDirect, err = s.Serve(s.tokens.note(newUI(ui{front: s.Front, sidecar: s.Sidecar, workspace: s.Workspace.URL(), client: s.client})))
	if err != nil {
		return err
	}
	s.UI, err = s.startFront(uiApp, s.uiDirect)
	return err
}

// awaitWorker waits for an announcement that the publisher, which has subscribed by now, has heard too.
func (s *Stage) awaitWorker(ctx context.Context, _ Config) error {
	subjects, err := relay.NewSubjects(s.Files.Config.SubjectPrefix)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	asked := 0
	_, err = s.recorder.wait(ctx, func(m Message) bool {
		if m.Subject == subjects.Discover(middlewareApp) {
			asked = m.Number
		}
		return asked > 0 && m.Subject == subjects.Announce(middlewareApp)
	})
	if err != nil {
		return fmt.Errorf("no worker announced itself: %w", err)
	}
	return nil
}

func (s *Stage) startPublisher(context.Context, Config) error {
	transport, err := s.StartPublisher(uiApp, func(c *publisher.Config) { c.Now = s.probe.publisherClock })
	if err != nil {
		return err
	}
	sidecar, err := publisher.NewSidecar(publisher.SidecarConfig{Transport: transport, Service: middlewareApp, Log: s.log.With("part", "publisher")})
	if err != nil {
		return err
	}
	s.Sidecar, err = s.Serve(s.probe.sidecar(sidecar))
	return err
}
