// Package supply says what the commands are made of: the modules that are linked into each, their licences, the notices
// that go with a binary, and a bill of materials. It reads the module cache by way of the go command.
package supply

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Module is one that is linked into a command.
type Module struct {
	Path, Version string
	Licenses      []string // SPDX identifiers, sorted
	Texts         []Text   // licences and notices, of the module and of its parts that are linked
}

// Text is a licence or notice.
type Text struct {
	Name    string // of its file, in the module
	Content string
}

// Target is a platform.
type Target struct{ OS, Arch string }

// Targets are those that are released.
var Targets = []Target{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"}}

// listed is what go list tells of a package.
type listed struct {
	Dir    string
	Module *struct {
		Path, Version, Dir string
		Main               bool
		Replace            *struct{ Path string }
	}
}

// Modules lists what is linked into a command, such as ./worker/cmd/obo-worker, for any of the targets. source is the
// project's folder. Every module whose licence cannot be told is in the error.
func Modules(ctx context.Context, source, command string, targets ...Target) ([]Module, error) {
	type found struct {
		version, dir string
		packages     map[string]bool // folders
	}
	modules := map[string]*found{}
	for _, target := range targets {
		packages, err := list(ctx, source, command, target)
		if err != nil {
			return nil, err
		}
		for _, p := range packages {
			m := p.Module
			if m == nil || m.Main { // the standard library, or ours
				continue
			}
			if m.Replace != nil {
				return nil, fmt.Errorf("%s is replaced by %s: what is linked is not what its version says", m.Path, m.Replace.Path)
			}
			if modules[m.Path] == nil {
				modules[m.Path] = &found{m.Version, m.Dir, map[string]bool{}}
			}
			modules[m.Path].packages[p.Dir] = true
		}
	}
	var out []Module
	var faults []error
	for _, path := range slices.Sorted(maps.Keys(modules)) {
		f := modules[path]
		m := Module{Path: path, Version: f.version}
		var err error
		if m.Texts, m.Licenses, err = licenses(f.dir, f.packages); err != nil {
			faults = append(faults, fmt.Errorf("%s %s: %w", path, f.version, err))
		}
		out = append(out, m)
	}
	return out, errors.Join(faults...)
}

func list(ctx context.Context, source, command string, target Target) ([]listed, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=Dir,Module", command)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+target.OS, "GOARCH="+target.Arch)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w\n%s", command, err, stderr.Bytes())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
}

// licenses reads what stands in a module's folder, and in those of its packages that are linked and above them.
func licenses(root string, packages map[string]bool) (texts []Text, ids []string, err error) {
	folders := map[string]bool{root: true}
	for dir := range packages {
		for ; len(dir) > len(root); dir = filepath.Dir(dir) {
			folders[dir] = true
		}
	}
	known := map[string]bool{}
	for _, dir := range slices.SortedFunc(maps.Keys(folders), func(a, b string) int { return cmp.Or(len(a)-len(b), cmp.Compare(a, b)) }) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range entries {
			kind := kindOf(e.Name())
			if e.IsDir() || kind == other {
				continue
			}
			content, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, nil, err
			}
			name, err := filepath.Rel(root, filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, nil, err
			}
			texts = append(texts, Text{filepath.ToSlash(name), strings.ReplaceAll(string(content), "\r\n", "\n")})
			if kind == notice {
				continue
			}
			found := identify(content)
			if len(found) == 0 {
				return texts, nil, fmt.Errorf("%s is no licence that is known: read it, and see deploy/supply/license.go", name)
			}
			for _, id := range found {
				known[id] = true
			}
		}
	}
	if len(known) == 0 {
		return texts, nil, errors.New("it has no licence file")
	}
	return texts, slices.Sorted(maps.Keys(known)), nil
}
