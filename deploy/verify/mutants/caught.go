package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// line is a mutant's line in the table of CAUGHT.md.
func (m mutant) line() string {
	return fmt.Sprintf("| %s | %s | `%s` in %s |", m.Name, m.File, m.Test, strings.TrimPrefix(m.Package, "./"))
}

// readCaught returns the lines of the table by the mutant's name.
func readCaught(root string) (map[string]string, error) {
	b, err := os.ReadFile(filepath.Join(root, caughtFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	lines := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if cells := strings.Split(line, " | "); len(cells) == 3 && line != head {
			lines[strings.TrimPrefix(cells[0], "| ")] = line
		}
	}
	return lines, nil
}

const head = "| taken out | of | caught by |"

// writeCaught keeps the lines of those that did not run. One that ran and was not caught has none.
func writeCaught(root string, rows []row, chosen []mutant, caught map[string]bool) error {
	lines, err := readCaught(root)
	if err != nil {
		return err
	}
	for _, m := range chosen {
		delete(lines, m.Name)
		if caught[m.Name] {
			lines[m.Name] = m.line()
		}
	}
	var b strings.Builder
	b.WriteString("# Defences taken out, and the tests that noticed\n\n" +
		"Written by `make mutants`. Each line is a run of the project without one defence, as [mutants.json](mutants.json) has it,\n" +
		"in which the test failed; with the defence in place it passes. The headings are the rows of the table in\n" +
		"[SECURITY.md](../../../SECURITY.md).\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n|---|---|---|\n", r.Against, head)
		for _, m := range r.Mutants {
			if line, ok := lines[m.Name]; ok {
				b.WriteString(line + "\n")
			}
		}
	}
	return os.WriteFile(filepath.Join(root, caughtFile), []byte(b.String()), 0o644)
}
