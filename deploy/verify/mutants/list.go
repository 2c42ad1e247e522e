package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The files, from the root of the project.
const (
	listFile     = "deploy/verify/mutants/mutants.json"
	caughtFile   = "deploy/verify/mutants/CAUGHT.md"
	promisesFile = "SECURITY.md"
)

// row is a promise of SECURITY.md and what happens to it.
type row struct {
	Against string   `json:"against"` // the first column
	Mutants []mutant `json:"mutants"`
}

// mutant is the project without one defence.
type mutant struct {
	Name    string `json:"name"`
	File    string `json:"file"`
	Old     string `json:"old"` // occurs once in File
	New     string `json:"new"`
	Package string `json:"package"`
	Test    string `json:"test"` // of Package: fails when New stands for Old

	against string
}

// mutate returns the file's text without the defence.
func (m mutant) mutate(root string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(root, m.File))
	if err != nil {
		return nil, err
	}
	if n := strings.Count(string(b), m.Old); m.Old == "" || n != 1 {
		return nil, fmt.Errorf("%s holds the text to replace %d times, want once: %q", m.File, n, m.Old)
	}
	return []byte(strings.Replace(string(b), m.Old, m.New, 1)), nil
}

func readList(root string) ([]row, error) {
	f, err := os.Open(filepath.Join(root, listFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var rows []row
	dec := json.NewDecoder(f)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rows); err != nil {
		return nil, fmt.Errorf("%s: %w", listFile, err)
	}
	for i := range rows {
		for j := range rows[i].Mutants {
			rows[i].Mutants[j].against = rows[i].Against
		}
	}
	return rows, nil
}

// promises reads the table of SECURITY.md: the first column, in order, and the tests that each row names.
func promises(root string) (order []string, tests map[string][]string, err error) {
	b, err := os.ReadFile(filepath.Join(root, promisesFile))
	if err != nil {
		return nil, nil, err
	}
	_, table, _ := strings.Cut(string(b), "<!-- promises -->")
	table, _, ended := strings.Cut(table, "<!-- /promises -->")
	if !ended {
		return nil, nil, errors.New(promisesFile + " has no table of promises")
	}
	tests = map[string][]string{}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		against := strings.TrimSpace(cells[1])
		if against == "against" || strings.HasPrefix(against, "---") {
			continue
		}
		order = append(order, against)
		for _, m := range named.FindAllStringSubmatch(line, -1) {
			tests[against] = append(tests[against], m[1])
		}
	}
	return order, tests, nil
}

// check returns every way in which list, code and promises have drifted apart. It runs nothing.
func check(root string, rows []row) error {
	order, proofs, err := promises(root)
	if err != nil {
		return err
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	listed, names := map[string]bool{}, map[string]bool{}
	for _, r := range rows {
		if !slices.Contains(order, r.Against) || listed[r.Against] {
			fault("%q is no row of %s's table of promises, or is here twice", r.Against, promisesFile)
		}
		listed[r.Against] = true
		named := 0
		for _, m := range r.Mutants {
			if slices.Contains(proofs[r.Against], m.Test) {
				named++
			}
			if m.Name == "" || names[m.Name] || strings.ContainsAny(m.Name, "|`\n") {
				fault("%q: names are unique and fit into a table", m.Name)
			}
			names[m.Name] = true
			if err := m.check(root); err != nil {
				fault("%s: %w", m.Name, err)
			}
		}
		if named == 0 {
			fault("%s: no test that its row in %s names is shown to fail", r.Against, promisesFile)
		}
	}
	for _, against := range order {
		if !listed[against] {
			fault("%s: no mutant takes a defence out", against)
		}
	}
	return errors.Join(faults...)
}

func (m mutant) check(root string) error {
	mutated, err := m.mutate(root)
	if err != nil {
		return err
	}
	if m.Old == m.New || strings.HasSuffix(m.File, "_test.go") {
		return errors.New("it changes nothing, or a test")
	}
	if filepath.Ext(m.File) == ".go" {
		if _, err := parser.ParseFile(token.NewFileSet(), m.File, mutated, 0); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(root, m.Package, "*_test.go"))
	if err != nil {
		return err
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(b), "\nfunc "+m.Test+"(t *testing.T)") {
			return nil
		}
	}
	return fmt.Errorf("%s has no test %s", m.Package, m.Test)
}
