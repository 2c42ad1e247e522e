package main

import (
	"slices"
	"strings"
	"testing"
)

const root = "../../.."

// The list names code and tests that are there, and takes a defence out of every promise.
func TestList(t *testing.T) {
	rows, err := readList(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := check(root, rows); err != nil {
		t.Error(err)
	}
}

// CAUGHT.md has a line for each mutant, with its test, and no other.
func TestCaught(t *testing.T) {
	rows, err := readList(root)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := readCaught(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		for _, m := range r.Mutants {
			if lines[m.Name] != m.line() {
				t.Errorf("%s has not %q: run make mutants MUTANTS=%q", caughtFile, m.line(), m.Name)
			}
			delete(lines, m.Name)
		}
	}
	for name := range lines {
		t.Errorf("%s: %q is not in the list", caughtFile, name)
	}
}

// Each fault that check is for is found.
func TestCheckFindsFaults(t *testing.T) {
	for name, c := range map[string]struct {
		want  string
		spoil func([]row) []row
	}{
		"row missing":       {"no mutant takes a defence out", func(r []row) []row { return r[1:] }},
		"row unknown":       {"is no row of", func(r []row) []row { r[0].Against = "rain"; return r }},
		"row empty":         {"no test that its row", func(r []row) []row { r[0].Mutants = nil; return r }},
		"name twice":        {"names are unique", func(r []row) []row { r[0].Mutants = append(r[0].Mutants, r[0].Mutants[0]); return r }},
		"text gone":         {"0 times", func(r []row) []row { r[0].Mutants[0].Old += "\x00"; return r }},
		"text several":      {"times, want once", func(r []row) []row { r[0].Mutants[0].Old = "{"; return r }},
		"file gone":         {"no such file", func(r []row) []row { r[0].Mutants[0].File = "relay/none.go"; return r }},
		"nothing changed":   {"it changes nothing", func(r []row) []row { r[0].Mutants[0].New = r[0].Mutants[0].Old; return r }},
		"not Go any more":   {"expected", func(r []row) []row { r[0].Mutants[0].New = "}}}"; return r }},
		"test gone":         {"has no test TestNone", func(r []row) []row { r[0].Mutants[0].Test = "TestNone"; return r }},
		"test of elsewhere": {"has no test", func(r []row) []row { r[0].Mutants[0].Package = "./schemas"; return r }},
	} {
		t.Run(name, func(t *testing.T) {
			rows, err := readList(root)
			if err != nil {
				t.Fatal(err)
			}
			err = check(root, c.spoil(slices.Clone(rows)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
