//go:build unix

package apps

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"
)

// TestE2E runs the apps as the platform does, from their own app.yaml and requirements.txt, behind the sandbox's front
// proxies, and uses the UI in real browsers: drive.py says how. It needs Python, Chromium and a package index, so it runs
// only where OBO_E2E_DIR names a directory for what it installs and for its pictures: make e2e.
func TestE2E(t *testing.T) {
	dir := os.Getenv("OBO_E2E_DIR")
	if dir == "" {
		t.Log("NOT RUN: it needs Python, Chromium and a package index. make e2e runs it")
		return
	}
	s := newStage(t, dir)
	var browser string
	var install errgroup.Group
	install.Go(func() (err error) { browser, err = findBrowser(t.Context()); return })
	install.Go(s.installDriver)
	for name := range sources {
		install.Go(func() error { return s.install(name) })
	}
	s.must(install.Wait())
	for _, name := range order {
		s.must(s.start(name))
	}

	pictures := filepath.Join(dir, "pictures")
	s.must(os.RemoveAll(pictures))
	drive := exec.CommandContext(t.Context(), s.program("driver", "python"), "drive.py", "--browser", browser, "--pictures", pictures,
		"--ui", s.fronts["ui"].URL(), "--short", s.fronts["ui-short"].URL(), "--control", s.control())
	drive.Stdout, drive.Stderr = os.Stdout, os.Stderr
	if err := drive.Run(); err != nil {
		t.Errorf("drive.py: %v", err)
	}
	s.checkCalls()
	t.Logf("pictures are in %s", pictures)
}

// checkCalls wants nobody but the people themselves to have asked the workspace for what is theirs: the apps' service
// principals open the broker app's door, and do nothing else.
func (s *stage) checkCalls() {
	seen := map[string]int{}
	for _, call := range s.workspace.Calls().ByServicePrincipals() {
		seen[call.Method+" "+call.Path] += call.Count
	}
	door := map[string]bool{"POST /oidc/v1/token": true, "GET /api/2.0/apps/" + brokerFolder: true}
	for call, n := range seen {
		if !door[call] {
			s.t.Errorf("a service principal called %s %d times", call, n)
		}
	}
	if len(seen) != len(door) {
		s.t.Errorf("service principals called %v, want %v", seen, door)
	}
}

// control serves what the driver asks for while it has pages open, and returns its address.
func (s *stage) control() string {
	mux := http.NewServeMux()
	for pattern, do := range map[string]func(app string) error{
		"POST /start/{app}": s.start,
		"POST /stop/{app}":  func(app string) error { return s.stop(app, syscall.SIGTERM) },
		"POST /kill/{app}":  func(app string) error { return s.stop(app, syscall.SIGKILL) },
	} {
		mux.HandleFunc(pattern, func(rw http.ResponseWriter, r *http.Request) {
			if err := do(r.PathValue("app")); err != nil {
				http.Error(rw, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	return s.serve(mux)
}
