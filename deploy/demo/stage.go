package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/obo-relay/obo-relay/deploy/broker"
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
	Workspace  *sandbox.Workspace
	Files      setup.Result
	NATS       string // address of the broker
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
	closers  []func() error
	failed   chan error
}

// patience is how long anything on the stage may take.
const patience = 10 * time.Second

// Start sets the stage and returns when a worker has announced itself.
func Start(ctx context.Context, cfg Config) (*Stage, error) {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	s := &Stage{log: cfg.Log, failed: make(chan error, 4), probe: newProbe(), client: newProgram(), tokens: newTokens()}
	s.browsers = map[string]*browser{VisitorAlice: newBrowser(Alice), VisitorBob: newBrowser(Bob)}
	s.onClose(func() error {
		s.client.CloseIdleConnections()
		for _, b := range s.browsers {
			b.close()
		}
		return nil
	})
	for _, step := range []func(context.Context, Config) error{
		s.startFiles, s.startBroker, s.startWorkspace, s.startMiddleware, s.startWorker, s.startPublisher, s.startUI, s.awaitWorker,
	} {
		if err := step(ctx, cfg); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

// Failed gets an error when a part ends by itself.
func (s *Stage) Failed() <-chan error { return s.failed }

func (s *Stage) onClose(f func() error) { s.closers = append(s.closers, f) }

// Close stops every part, the last one first. Closing twice is fine.
func (s *Stage) Close() error {
	var faults []error
	for len(s.closers) > 0 {
		last := len(s.closers) - 1
		f := s.closers[last]
		s.closers = s.closers[:last]
		faults = append(faults, f())
	}
	return errors.Join(faults...)
}

// run runs a part until Close.
func (s *Stage) run(name string, part func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := part(ctx); err != nil {
			s.failed <- fmt.Errorf("%s: %w", name, err)
		}
	}()
	s.onClose(func() error { cancel(); <-done; return nil })
}

func (s *Stage) startFiles(_ context.Context, cfg Config) error {
	if cfg.Dir == "" {
		dir, err := os.MkdirTemp("", "obo-demo-")
		if err != nil {
			return err
		}
		s.onClose(func() error { return os.RemoveAll(dir) })
		cfg.Dir = dir
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	s.Files, err = setup.Init(setup.Config{
		Dir: cfg.Dir, Apps: []setup.App{{Name: uiApp}}, Services: []string{middlewareApp},
		NATSURL: fmt.Sprintf("nats://127.0.0.1:%d", port),
	})
	return err
}

func (s *Stage) startBroker(ctx context.Context, _ Config) error {
	b, err := broker.New(broker.Config{ConfigFile: s.Files.ServerConf, Log: s.log.With("part", "broker"), DrainTimeout: time.Millisecond})
	if err != nil {
		return err
	}
	s.run("broker", b.Run)
	select {
	case <-b.Ready():
		s.NATS = b.ClientURL()
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	seed, err := relay.ReadSecretFile(s.Files.Inspector)
	if err != nil {
		return err
	}
	s.recorder, err = newRecorder(s.NATS, string(seed))
	if err == nil {
		s.onClose(func() error { s.recorder.close(); return nil })
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
	s.onClose(server.Close)
	s.Workspace = ws
	return nil
}

func (s *Stage) startMiddleware(context.Context, Config) error {
	var err error
	s.middleware, err = s.serve(newMiddleware(s.Workspace.URL(), s.client))
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
	s.onClose(server.Close)
	return server.URL(), nil
}

func (s *Stage) startUI(context.Context, Config) error {
	var err error
	s.uiDirect, err = s.serve(s.tokens.note(newUI(ui{front: s.Front, sidecar: s.Sidecar, workspace: s.Workspace.URL(), client: s.client})))
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

// serve serves a handler on a free port until Close.
func (s *Stage) serve(h http.Handler) (string, error) {
	listener, err := listenLoopback("127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s.onClose(serveOn(listener, h, s.log))
	return "http://" + listener.Addr().String(), nil
}

// side is one end's configuration from the kit that obo init wrote.
func (s *Stage) side(role relay.Role, name string) (*relay.Side, error) {
	settings := relay.Settings{KitFile: s.Files.Side(role, name).KitFile, Hints: relay.HintsFull}
	return settings.Load(role)
}

func (s *Stage) startPublisher(context.Context, Config) error {
	side, err := s.side(relay.RoleApp, uiApp)
	if err != nil {
		return err
	}
	log := s.log.With("part", "publisher")
	transport, err := publisher.New(publisher.Config{
		App: side.Name, Identity: side.Identity, Trust: side.Trust, NATS: side.Connect, Prefix: side.Prefix, Log: log, Now: s.probe.publisherClock,
	})
	if err != nil {
		return err
	}
	s.run("publisher", transport.Run)
	sidecar, err := publisher.NewSidecar(publisher.SidecarConfig{Transport: transport, Service: middlewareApp, Log: log})
	if err != nil {
		return err
	}
	s.Sidecar, err = s.serve(s.probe.sidecar(sidecar))
	return err
}
