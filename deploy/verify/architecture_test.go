// Package verify holds the project to its architecture: what may import what, what a binary links, how the tree is laid out.
package verify

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/obo-relay/obo-relay/"

// imports are the folders of ours whose packages those of a folder may import, beside its own.
var imports = map[string][]string{
	"schemas":   {},
	"relay":     {"schemas"},
	"publisher": {"relay", "schemas"},
	"worker":    {"relay", "schemas"},
	"deploy":    {"relay", "schemas", "publisher", "worker"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// list runs go list in the project's root.
func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...)
	cmd.Dir, cmd.Stderr = root(t), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func folder(importPath string) string {
	rest, _ := strings.CutPrefix(importPath, module)
	first, _, _ := strings.Cut(rest, "/")
	return first
}

func TestPackagesImportOnlyWhatTheArchitectureAllows(t *testing.T) {
	packages := list(t, "./...")
	if len(packages) < 10 {
		t.Fatalf("go list found %d packages only", len(packages))
	}
	for _, p := range packages {
		from := folder(p.ImportPath)
		allowed, known := imports[from]
		if !known {
			t.Errorf("%s: no such folder in the architecture", p.ImportPath)
		}
		for _, i := range p.Imports {
			if to := folder(i); strings.HasPrefix(i, module) && to != from && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s", p.ImportPath, i)
			}
		}
	}
}

func TestBinariesLinkNothingThatIsNotTheirs(t *testing.T) {
	const sdk, server = "github.com/databricks/databricks-sdk-go", "github.com/nats-io/nats-server"
	const otelSDK = "go.opentelemetry.io/otel/sdk"
	for binary, banned := range map[string][]string{
		"publisher/cmd/obo-publisher": {module + "worker", module + "deploy", sdk, server},
		"worker/cmd/obo-worker":       {module + "publisher", module + "deploy", server, sdk + "/service/workspace", sdk + "/service/compute"},
		"deploy/cmd/obo-broker":       {module + "publisher", module + "worker", sdk, otelSDK},
		// Who uses the packages brings an OpenTelemetry set-up of their own, or none.
		"publisher/observe": {otelSDK, module + "relay/telemetry/export"},
		"worker/observe":    {otelSDK, module + "relay/telemetry/export"},
		"publisher":         {otelSDK, "go.opentelemetry.io/otel"},
	} {
		found := list(t, "./"+binary)
		if len(found) != 1 || len(found[0].Deps) < 50 {
			t.Fatalf("%s: go list did not find it", binary)
		}
		for _, dep := range found[0].Deps {
			for _, b := range banned {
				if dep == b || strings.HasPrefix(dep, b+"/") {
					t.Errorf("%s links %s", binary, dep)
				}
			}
		}
	}
}

func TestLayout(t *testing.T) {
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, known := imports[e.Name()]; e.IsDir() && !known && e.Name() != "bin" && !strings.HasPrefix(e.Name(), ".") {
			t.Errorf("%s: no such folder in the architecture", e.Name())
		}
	}
	mains, err := filepath.Glob(filepath.Join(root(t), "*", "cmd", "*", "main.go"))
	if err != nil || len(mains) < 4 {
		t.Fatalf("%d main.go found, %v", len(mains), err)
	}
	for _, path := range mains {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "\n"); n > 25 {
			t.Errorf("%s has %d lines: main only calls run", path, n)
		}
	}
}
