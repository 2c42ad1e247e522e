package apps

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/deploy/setup"
)

// TestLive runs both apps as the platform does, from their own app.yaml and requirements.txt, behind the sandbox's front
// proxies, and opens the UI as its page does in a browser. It needs Python and a package index, so it runs only where
// OBO_APPS_DIR names a directory for the apps' virtual environments: make apps.
func TestLive(t *testing.T) {
	dir := os.Getenv("OBO_APPS_DIR")
	if dir == "" {
		t.Log("NOT RUN: it needs Python and a package index. make apps runs it")
		return
	}
	s := newStage(t, dir)
	s.start("middleware")
	s.start("ui")
	expired, err := s.workspace.Token("alice@example.com", sandbox.TokenOptions{App: "ui", Lifetime: -10 * time.Minute})
	s.must(err)
	drive := exec.CommandContext(t.Context(), s.program("ui", "python"), "drive.py", s.fronts["ui"], "http://127.0.0.1:"+s.ports["ui"], expired)
	drive.Stdout, drive.Stderr = os.Stdout, os.Stderr
	if err := drive.Run(); err != nil {
		t.Errorf("drive.py: %v", err)
	}
}

// stage is a platform with two apps installed.
type stage struct {
	t         *testing.T
	dir       string
	workspace *sandbox.Workspace
	url       string            // of the workspace
	kits      map[string]string // by app
	ports     map[string]string
	fronts    map[string]string
}

func newStage(t *testing.T, dir string) *stage {
	t.Helper()
	s := &stage{t: t, dir: dir, kits: map[string]string{}, ports: map[string]string{}, fronts: map[string]string{}}
	s.serveWorkspace()
	s.serveBroker()
	for name := range folders {
		s.install(name)
		s.openFront(name)
	}
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
	s.workspace, err = sandbox.New(sandbox.Config{
		Users: []sandbox.User{
			{UserName: "alice@example.com", DisplayName: "Alice", Groups: []string{"data-admins", "analysts"}},
			{UserName: "bob@example.com", DisplayName: "Bob", Groups: []string{"analysts"}},
		},
		Apps: []sandbox.App{
			{Name: "ui", UserAuthorization: true, Scopes: []string{"sql"}},
			{Name: "middleware", UserAuthorization: true, Scopes: []string{"sql"}},
		},
		Warehouses: []string{"warehouse-1"},
		Tables: []sandbox.Table{{
			Name: "sales", Columns: []sandbox.Column{{Name: "region"}, {Name: "amount", Type: "BIGINT"}},
			Rows: []sandbox.Row{{Values: []any{"EMEA", 120}}, {Values: []any{"secret", 999}, Groups: []string{"data-admins"}}},
		}},
	})
	s.must(err)
	api, err := s.workspace.Listen("127.0.0.1:0")
	s.must(err)
	s.t.Cleanup(func() { _ = api.Close() })
	s.url = api.URL()
}

func (s *stage) serveBroker() {
	made, err := setup.Init(setup.Config{
		Dir: s.t.TempDir(), NATSURL: "nats://127.0.0.1:" + s.freePort(), Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"},
	})
	s.must(err)
	for _, side := range made.Sides {
		kit, err := os.ReadFile(side.KitFile)
		s.must(err)
		s.kits[side.Name] = string(kit)
	}
	b, err := broker.New(broker.Config{ConfigFile: made.ServerConf})
	s.must(err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	s.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	<-b.Ready()
}

// install does what the platform does with an app's folder.
func (s *stage) install(name string) {
	s.t.Helper()
	app := filepath.Join(s.dir, name)
	s.must(os.RemoveAll(filepath.Join(app, "source")))
	s.must(os.CopyFS(filepath.Join(app, "source"), os.DirFS(folders[name])))
	venv, vendor := filepath.Join(app, "venv"), filepath.Join(app, "source", "vendor")
	here := runtime.GOOS + "/" + runtime.GOARCH
	s.exec("go", "run", "../wheels", "--source", "../..", "--version", "0.1.0", "--platform", here, "--out", vendor)
	s.exec("python3", "-m", "venv", venv)
	s.exec(s.program(name, "python"), "-m", "pip", "uninstall", "--quiet", "--yes", "obo-relay-publisher", "obo-relay-worker")
	s.exec(s.program(name, "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", filepath.Join(app, "source", "requirements.txt"))
}

func (s *stage) program(app, name string) string {
	path, err := filepath.Abs(filepath.Join(s.dir, app, "venv", "bin", name))
	s.must(err)
	return path
}

func (s *stage) exec(name string, args ...string) {
	s.t.Helper()
	if out, err := exec.CommandContext(s.t.Context(), name, args...).CombinedOutput(); err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func (s *stage) openFront(name string) {
	s.ports[name] = s.freePort()
	front, err := sandbox.NewFront(sandbox.FrontConfig{Workspace: s.workspace, App: name, Upstream: "http://127.0.0.1:" + s.ports[name]})
	s.must(err)
	door, err := front.Listen("127.0.0.1:0")
	s.must(err)
	s.t.Cleanup(func() { _ = door.Close() })
	s.fronts[name] = door.URL()
}

// start runs an app's command, in the environment that the platform gives it, until the test ends.
func (s *stage) start(name string) {
	s.t.Helper()
	yaml := readApp(s.t, folders[name])
	words := make([]string, len(yaml.Command))
	for i, word := range yaml.Command {
		words[i] = strings.ReplaceAll(word, "$DATABRICKS_APP_PORT", s.ports[name])
	}
	cmd := exec.Command(s.program(name, words[0]), words[1:]...)
	cmd.Dir = filepath.Join(s.dir, name, "source")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.WaitDelay = 5 * time.Second
	app, _ := s.workspace.App(name)
	cmd.Env = []string{
		"PATH=" + filepath.Dir(s.program(name, "python")) + ":/usr/bin:/bin", "HOME=" + s.t.TempDir(), "PYTHONUNBUFFERED=1",
		"DATABRICKS_APP_NAME=" + name, "DATABRICKS_APP_PORT=" + s.ports[name], "DATABRICKS_HOST=" + s.url,
		"DATABRICKS_CLIENT_ID=" + app.ClientID, "DATABRICKS_CLIENT_SECRET=" + app.ClientSecret,
		// What the platform sets for Streamlit.
		"STREAMLIT_SERVER_ADDRESS=0.0.0.0", "STREAMLIT_SERVER_PORT=" + s.ports[name], "STREAMLIT_SERVER_HEADLESS=true",
		"STREAMLIT_SERVER_ENABLE_CORS=false", "STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION=false", "STREAMLIT_BROWSER_GATHER_USAGE_STATS=false",
	}
	resources := map[string]string{"obo-kit": s.kits[name], "sql-warehouse": "warehouse-1"}
	for _, v := range yaml.Env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value+resources[v.ValueFrom])
	}
	s.must(cmd.Start())
	s.t.Cleanup(func() {
		begun := time.Now()
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		err := cmd.Wait()
		took := time.Since(begun)
		s.t.Logf("%s ended %v after SIGTERM: %v", name, took.Round(time.Millisecond), err)
		if took > 15*time.Second {
			s.t.Errorf("%s was not down in the 15 s that the platform gives", name)
		}
	})
	s.awaitHTTP("http://127.0.0.1:" + s.ports[name] + "/")
}

func (s *stage) awaitHTTP(address string) {
	s.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		if resp, err := http.Get(address); err == nil {
			_ = resp.Body.Close()
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("nothing answers at %s", address)
		}
	}
}

func (s *stage) freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}
