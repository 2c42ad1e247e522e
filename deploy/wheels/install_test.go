package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestInstall builds the wheels of this machine, installs them into a clean venv and runs what is on its PATH then. Without
// Python it only builds them.
func TestInstall(t *testing.T) {
	t.Parallel()
	vendor, here := t.TempDir(), runtime.GOOS+"/"+runtime.GOARCH
	if !slices.ContainsFunc(platforms, func(p platform) bool { return p.String() == here }) {
		t.Logf("no wheels are made for %s: NOTHING WAS INSTALLED", here)
		return
	}
	if err := run(t.Context(), []string{"--source", "../..", "--version", "1.2.3", "--out", vendor, "--platform", here}, io.Discard); err != nil {
		t.Fatal(err)
	}
	wheels, err := filepath.Glob(filepath.Join(vendor, "*-1.2.3-*.whl"))
	if err != nil || len(wheels) != len(distributions) {
		t.Fatalf("%d wheels, want %d: %v", len(wheels), len(distributions), err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Logf("python3 is missing: the wheels were built, but NOT INSTALLED: %v", err)
		return
	}
	venv := filepath.Join(t.TempDir(), "venv")
	if out, err := exec.CommandContext(t.Context(), python, "-m", "venv", venv).CombinedOutput(); err != nil {
		t.Logf("python3 cannot make a venv: the wheels were built, but NOT INSTALLED: %v\n%s", err, out)
		return
	}
	v := environment{t, filepath.Join(venv, "bin"), vendor}
	v.install("obo-relay-publisher==1.2.3", "obo-relay-worker==1.2.3", "obo-relay-broker==1.2.3", "obo-relay-doctor==1.2.3")
	for _, command := range []string{"obo-publisher", "obo-worker", "obo-broker", "obo-doctor"} {
		if help := v.run(command, "--help"); !strings.Contains(help, "Usage: "+command) {
			t.Errorf("%s --help:\n%s", command, help)
		}
		if version := v.run(command, "--version"); version != "v1.2.3\n" {
			t.Errorf("%s is of version %q", command, version)
		}
	}
	v.run("python", "-c", "import obo_relay; print(obo_relay.headers)")
	v.run("python", "-m", "pip", "check")
	v.run("python", "-m", "pip", "uninstall", "--yes", "obo-relay-publisher", "obo-relay-worker", "obo-relay-broker", "obo-relay-doctor")
	for _, name := range []string{"bin/obo-publisher", "bin/obo-worker", "bin/obo-broker", "bin/obo-doctor", "lib/*/site-packages/obo_relay*"} {
		if left, err := filepath.Glob(filepath.Join(venv, name)); len(left) > 0 {
			t.Errorf("left after uninstalling: %v %v", left, err)
		}
	}
}

// environment is a Python venv that reaches no package index.
type environment struct {
	t           *testing.T
	bin, vendor string
}

func (e environment) install(names ...string) {
	e.t.Helper()
	e.run("python", append([]string{"-m", "pip", "install", "--no-index", "--find-links", e.vendor}, names...)...)
}

func (e environment) run(command string, args ...string) string {
	e.t.Helper()
	cmd := exec.CommandContext(e.t.Context(), filepath.Join(e.bin, command), args...)
	cmd.Dir, cmd.Env = e.vendor, append(os.Environ(), "PYTHONNOUSERSITE=1", "PIP_DISABLE_PIP_VERSION_CHECK=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		e.t.Fatalf("%s %s: %v\n%s", command, strings.Join(args, " "), err, out)
	}
	return string(out)
}
