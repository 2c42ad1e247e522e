package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/obo-relay/obo-relay/deploy/supply"
)

var update = flag.Bool("update", false, "write deploy/verify/deps anew")

// commands are what is released.
var commands = []string{"publisher/cmd/obo-publisher", "worker/cmd/obo-worker", "deploy/cmd/obo-broker", "deploy/cmd/obo-doctor", "deploy/cmd/obo"}

// linked are the modules of each command, read once.
var linked = sync.OnceValues(func() (map[string][]supply.Module, error) {
	out := map[string][]supply.Module{}
	for _, command := range commands {
		modules, err := supply.Modules(context.Background(), filepath.FromSlash("../.."), "./"+command, supply.Targets...)
		if err != nil {
			return nil, err
		}
		out[path.Base(command)] = modules
	}
	return out, nil
})

func modulesOf(t *testing.T) map[string][]supply.Module {
	t.Helper()
	all, err := linked()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What is linked into each binary is written down, with its licence, so that nothing comes in unseen.
func TestDependencies(t *testing.T) {
	for command, modules := range modulesOf(t) {
		var have strings.Builder
		for _, m := range modules {
			fmt.Fprintln(&have, m.Path, m.Version, strings.Join(m.Licenses, ","))
		}
		file := filepath.Join("deps", command+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(have.String()), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		if d := lineDiff(string(want), have.String()); d != "" {
			t.Errorf("%s links other modules than deploy/verify/%s says:\n%sReview each, then: go test ./deploy/verify -run TestDependencies -update", command, filepath.ToSlash(file), d)
		}
	}
}

// lineDiff tells which lines went and which came.
func lineDiff(before, after string) string {
	old, now := strings.SplitAfter(before, "\n"), strings.SplitAfter(after, "\n")
	var d strings.Builder
	for _, line := range old {
		if !slices.Contains(now, line) {
			d.WriteString("  - " + line)
		}
	}
	for _, line := range now {
		if !slices.Contains(old, line) {
			d.WriteString("  + " + line)
		}
	}
	return d.String()
}

func TestLineDiff(t *testing.T) {
	if d := lineDiff("a 1\nb 1\n", "a 1\nb 2\nc 1\n"); d != "  - b 1\n  + b 2\n  + c 1\n" {
		t.Errorf("%q", d)
	}
	if d := lineDiff("a 1\n", "a 1\n"); d != "" {
		t.Errorf("%q", d)
	}
}

// Every module is under a licence that lets us ship it, and its text goes with the binary.
func TestLicenses(t *testing.T) {
	for command, modules := range modulesOf(t) {
		if len(modules) < 10 {
			t.Errorf("%s links %d modules only", command, len(modules))
		}
		notices, err := supply.Notices(command, modules)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range modules {
			for _, id := range m.Licenses {
				if !slices.Contains(supply.Allowed, id) {
					t.Errorf("%s links %s, which is under %s: that is not among the licences of deploy/supply/license.go", command, m.Path, id)
				}
			}
			for _, text := range m.Texts {
				if !strings.Contains(notices, m.Path+" ("+text.Name+")") || !strings.Contains(notices, strings.TrimSpace(text.Content)) {
					t.Errorf("%s: the notices lack %s of %s", command, text.Name, m.Path)
				}
			}
		}
		if !strings.Contains(notices, "The Go Authors") {
			t.Errorf("%s: the notices lack the standard library", command)
		}
	}
}

// The bill of materials holds to the schema of CycloneDX, which its Go module brings.
func TestSBOM(t *testing.T) {
	schema := cycloneDX(t)
	for command, modules := range modulesOf(t) {
		sbom, err := supply.SBOM(command, "v0.1.0", modules)
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(sbom))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", command, err)
		}
		var bom struct {
			Components []struct{ Name, Version, Purl string }
		}
		if err := json.Unmarshal(sbom, &bom); err != nil || len(bom.Components) != len(modules)+1 {
			t.Fatalf("%s: %d components, want %d modules and Go's own: %v", command, len(bom.Components), len(modules), err)
		}
		for i, m := range modules {
			if c := bom.Components[i]; c.Name != m.Path || c.Version != m.Version || c.Purl != "pkg:golang/"+strings.ToLower(m.Path)+"@"+m.Version {
				t.Errorf("%s: %v is not %s", command, c, m.Path)
			}
		}
		if c := bom.Components[len(modules)]; c.Purl != "pkg:golang/stdlib@"+strings.TrimPrefix(strings.Fields(runtime.Version())[0], "go") || c.Version == "" {
			t.Errorf("%s: %v is not the standard library", command, c)
		}
		again, err := supply.SBOM(command, "v0.1.0", modules)
		if err != nil || !bytes.Equal(sbom, again) {
			t.Errorf("%s: another one the second time, %v", command, err)
		}
	}
	if schema.Validate(map[string]any{"bomFormat": "other"}) == nil {
		t.Error("the schema takes anything")
	}
}

func cycloneDX(t *testing.T) *jsonschema.Schema {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	const base = "http://cyclonedx.org/schema/"
	for name, file := range map[string]string{"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json", "jsf-0.82.schema.json": "jsf-0.82.schemax.json"} {
		f, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		document, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(base+name, document); err != nil {
			t.Fatal(err)
		}
	}
	schema, err := compiler.Compile(base + "bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}
