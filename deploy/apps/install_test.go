//go:build unix

package apps

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// install does what the platform does with an app's folder, with the wheels of make wheels as its vendor/.
func (s *stage) install(name string) error {
	wheels := os.Getenv("OBO_WHEELS")
	if found, err := filepath.Glob(filepath.Join(wheels, "obo_relay_*.whl")); err != nil || len(found) == 0 {
		return fmt.Errorf("OBO_WHEELS=%q has no wheels (%w): make wheels builds them, make e2e runs this with them", wheels, err)
	}
	source := s.path(name, "source")
	err := errors.Join(
		os.RemoveAll(source),
		os.RemoveAll(s.path(name, "log")),
		os.CopyFS(source, os.DirFS(sources[name])),
		os.RemoveAll(filepath.Join(source, "vendor")), // a developer's
		os.Symlink(wheels, filepath.Join(source, "vendor")),
		s.venv(name),
	)
	if err != nil {
		return err
	}
	if name == brokerFolder {
		conf, err := os.ReadFile(s.conf)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(source, "nats-server.conf"), conf, 0o600); err != nil {
			return err
		}
	}
	// Else pip would take a version of that number, from an earlier build, for installed already.
	if err := s.pip(name, "uninstall", "--yes", "obo-relay-publisher", "obo-relay-worker", "obo-relay-broker"); err != nil {
		return err
	}
	return s.pip(name, "install", "--requirement", filepath.Join(source, "requirements.txt"))
}

// installDriver installs what drive.py imports.
func (s *stage) installDriver() error {
	if err := s.venv("driver"); err != nil {
		return err
	}
	return s.pip("driver", "install", "playwright==1.65.2")
}

// venv makes a virtual environment.
func (s *stage) venv(name string) error {
	if _, err := os.Stat(s.program(name, "pip")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return run("python3", "-m", "venv", s.path(name, "venv"))
}

func (s *stage) pip(name string, args ...string) error {
	return run(s.program(name, "python"), append([]string{"-m", "pip", "--quiet", "--disable-pip-version-check"}, args...)...)
}

// program is a command of a virtual environment.
func (s *stage) program(name, command string) string { return s.path(name, "venv", "bin", command) }

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %q: %w\n%s", name, args, err, out)
	}
	return nil
}
