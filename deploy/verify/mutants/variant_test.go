package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const sample = `package main

import "fmt"

const limit = 10

type gate struct{ open bool }

// Pass has a receiver and arguments without names.
func (gate) Pass(string, int) (ok bool) { return false }

func (_ *gate) sum(_, most int, of ...int) int {
	n := 0
	for _, v := range of {
		n += v
	}
	return min(n, most)
}

func (g *gate) shut() { g.open = false }

func main() {
	g := &gate{open: true}
	g.shut()
	fmt.Println(g.Pass("x", 1), g.sum(0, limit, 4, 5, 6), g.open)
}
`

// One build does what each mutant does alone, and without a choice what the original does.
func TestVariants(t *testing.T) {
	s, err := parseSource([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	changes := []struct{ old, new, want string }{
		{"{ return false }", "{ return true }", "true 10 false"},
		{"func (gate) Pass(string, int) (ok bool) { return false }", "func (g gate) Pass(s string, n int) (ok bool) { return s == \"x\" && n == 1 }", "true 10 false"},
		{"return min(n, most)", "return n", "false 15 false"},
		{"n += v", "n = v", "false 6 false"},
		{"g.open = false", "_ = g", "false 10 true"},
	}
	var variants []variant
	for i, c := range changes {
		v, ok := newVariant(i, s, []byte(strings.Replace(sample, c.old, c.new, 1)))
		if !ok {
			t.Fatalf("%q is no change within a function", c.old)
		}
		variants = append(variants, v)
	}
	dir := t.TempDir()
	for name, text := range map[string][]byte{"go.mod": []byte("module sample\n\ngo 1.24\n"), "main.go": s.with(variants), "chosen.go": chooser("main")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "sample")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, s.with(variants))
	}
	run := func(id, want string) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "sample"))
		cmd.Env = append(os.Environ(), chosen+"="+id)
		if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("mutant %q: %s, %v, want %s", id, out, err, want)
		}
	}
	run("", "false 10 false")
	for i, c := range changes {
		run(fmt.Sprint(i), c.want)
	}
}

// What is more than a change within one function gets a build of its own.
func TestOtherChangesAreNoVariants(t *testing.T) {
	s, err := parseSource([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new string }{
		{"limit = 10", "limit = 11"},
		{"{ open bool }", "{ open, other bool }"},
		{"func (g *gate) shut() { g.open = false }\n", "func (g *gate) shut() { g.open = false }\n\nfunc more() {}\n"},
		{"func (gate) Pass", "func (gate) Passed"},
		{"\tg.shut()\n\tfmt.Println(g.Pass(\"x\", 1), g.sum(0, limit, 4, 5, 6), g.open)\n}\n", "}\n\nvar _ = fmt.Println\n"},
		{"func (g *gate) shut() { g.open = false }\n", ""},
	} {
		mutated := strings.Replace(sample, c.old, c.new, 1)
		if _, err := parser.ParseFile(token.NewFileSet(), "", mutated, 0); err != nil || mutated == sample {
			t.Fatalf("%q: %v", c.old, err)
		}
		if _, ok := newVariant(0, s, []byte(mutated)); ok {
			t.Errorf("%q counts as a change within a function", c.old)
		}
	}
}
