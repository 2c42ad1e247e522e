//go:build unix

package apps

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/deploy/setup"
)

// stage is a platform with the apps.
type stage struct {
	t         *testing.T
	dir       string
	workspace *sandbox.Workspace
	conf      string            // of the NATS server, a file
	kits      map[string]string // by app
	ports     map[string]string
	fronts    map[string]*sandbox.Server
	running   map[string]*process
}

// sources are the folders of the apps by the apps' names, the broker's too.
var sources = map[string]string{"ui": folders["ui"], "middleware": folders["middleware"], brokerFolder: brokerFolder}

// order is that in which they start.
var order = []string{brokerFolder, "middleware", "ui"}

// shortToken is the life of a token at the front door ui-short. A page that has been loaded there has half of it at least.
const shortToken = 40 * time.Second

func newStage(t *testing.T, dir string) *stage {
	t.Helper()
	s := &stage{
		t: t, dir: dir, kits: map[string]string{}, ports: map[string]string{},
		fronts: map[string]*sandbox.Server{}, running: map[string]*process{},
	}
	s.serveWorkspace()
	s.initRelay()
	for name := range sources {
		s.ports[name] = s.freePort()
		s.openFront(name, name, 0)
	}
	s.openFront("ui-short", "ui", shortToken)
	t.Cleanup(func() {
		for _, name := range slices.Backward(order) {
			if s.running[name] == nil {
				continue
			}
			if err := s.stop(name, syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			s.showLogs()
		}
	})
	return s
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) serveWorkspace() {
	var err error
	admins := []string{"data-admins"}
	s.workspace, err = sandbox.New(sandbox.Config{
		Users: []sandbox.User{
			{UserName: "alice@example.com", DisplayName: "Alice", Groups: []string{"data-admins", "analysts"}},
			{UserName: "bob@example.com", DisplayName: "Bob", Groups: []string{"analysts"}},
		},
		Apps: []sandbox.App{
			{Name: "ui", UserAuthorization: true, Scopes: []string{"sql"}},
			{Name: "ui-short", UserAuthorization: true, Scopes: []string{"sql"}},
			{Name: "middleware", UserAuthorization: true, Scopes: []string{"sql"}},
			{Name: brokerFolder, CanUse: []string{"ui", "middleware"}},
		},
		Warehouses: []string{"warehouse-1"},
		Tables: []sandbox.Table{{
			Name: "sales", Columns: []sandbox.Column{{Name: "region"}, {Name: "quarter"}, {Name: "amount", Type: "BIGINT"}},
			Rows: []sandbox.Row{
				{Values: []any{"EMEA", "Q1", 1_284_000}}, {Values: []any{"AMER", "Q1", 2_051_500}},
				{Values: []any{"APAC, embargoed", "Q1", 973_200}, Groups: admins},
			},
		}},
	})
	s.must(err)
	api, err := s.workspace.Listen("127.0.0.1:0")
	s.must(err)
	s.t.Cleanup(func() { _ = api.Close() })
}

// initRelay is what obo init does.
func (s *stage) initRelay() {
	made, err := setup.Init(setup.Config{
		Dir: s.t.TempDir(), NATSURL: "app:" + brokerFolder, Listen: "127.0.0.1:" + s.freePort(),
		Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"},
	})
	s.must(err)
	s.conf = made.ServerConf
	for _, side := range made.Sides {
		kit, err := os.ReadFile(side.KitFile)
		s.must(err)
		s.kits[side.Name] = string(kit)
	}
}

// openFront opens a front door to an app, under a name that the workspace knows.
func (s *stage) openFront(name, app string, tokenLifetime time.Duration) {
	front, err := sandbox.NewFront(sandbox.FrontConfig{
		Workspace: s.workspace, App: name, Upstream: "http://127.0.0.1:" + s.ports[app], TokenLifetime: tokenLifetime,
		BearerOnlyAPI: true,
	})
	s.must(err)
	s.fronts[name], err = front.Listen("127.0.0.1:0")
	s.must(err)
	s.t.Cleanup(func() { _ = s.fronts[name].Close() })
}

// serve serves a handler on this machine until the test ends, and returns its address.
func (s *stage) serve(h http.Handler) string {
	server := httptest.NewServer(h)
	s.t.Cleanup(server.Close)
	return server.URL
}

func (s *stage) freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}

// path is an absolute one in the stage's directory.
func (s *stage) path(parts ...string) string {
	path, err := filepath.Abs(filepath.Join(append([]string{s.dir}, parts...)...))
	s.must(err)
	return path
}
