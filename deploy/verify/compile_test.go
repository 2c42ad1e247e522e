package verify

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"

	"github.com/obo-relay/obo-relay/deploy/supply"
)

// Everything compiles for each system that is released, tests too: what is there on Unix alone is in a file that says so.
func TestCompilesForEverySystem(t *testing.T) {
	seen := map[string]bool{runtime.GOOS: true} // the tests were built for this one
	for _, target := range supply.Targets {
		if seen[target.OS] {
			continue
		}
		seen[target.OS] = true
		n, faults := compile(t, root(t), target)
		if n < 60 || len(faults) > 0 {
			t.Errorf("%s: %d packages, and\n%s", target.OS, n, strings.Join(faults, "\n"))
		}
	}
}

func TestCompileFindsFaults(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir()) // macOS has one before it
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"go.mod": "module example.com/x\n\ngo 1.26\n", "x.go": "package x\n", "x_unix_test.go": "//go:build unix\n\npackage x\n\nimport _ \"syscall\"\n",
		"x_test.go": "package x\n\nimport \"syscall\"\n\nvar _ = func() { _ = syscall.Mkfifo }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for system, want := range map[string]int{"linux": 0, "windows": 1} {
		if _, faults := compile(t, dir, supply.Target{OS: system, Arch: "amd64"}); len(faults) != want || want > 0 && !strings.Contains(faults[0], "Mkfifo") {
			t.Errorf("%s: %q", system, faults)
		}
	}
}

// compile returns how many packages a module has, with their tests' variants, and what in them does not compile. Of what others
// wrote it reads the declarations alone: to build all that takes minutes.
func compile(t *testing.T, dir string, target supply.Target) (n int, faults []string) {
	t.Helper()
	all, err := packages.Load(&packages.Config{
		Dir: dir, Tests: true, Env: append(os.Environ(), "CGO_ENABLED=0", "GOOS="+target.OS, "GOARCH="+target.Arch),
		Mode: packages.NeedName | packages.NeedCompiledGoFiles | packages.NeedImports | packages.NeedDeps | packages.NeedTypes | packages.NeedSyntax,
		ParseFile: func(fset *token.FileSet, name string, src []byte) (*ast.File, error) {
			file, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
			if file == nil || strings.HasPrefix(name, dir) {
				return file, err
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok {
					f.Body = nil
				}
			}
			return file, err
		},
	}, "./...")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if strings.HasSuffix(p.PkgPath, ".test") {
			continue // the go command's, around the tests
		}
		n++
		for _, fault := range p.Errors {
			faults = append(faults, fault.Error())
		}
	}
	return n, faults
}
