package verify

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// testNames finds every test function of the project.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declaration := regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+)\(`)
	err := filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range declaration.FindAllStringSubmatch(string(b), -1) {
			names[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// promise is a row of SECURITY.md's table.
type promise struct {
	line  string
	cells []string // against, adversary, promise, exclusion, tests
}

const promiseColumns = "| against | adversary | promise | exclusion | tests |"

// promises reads the table, and the adversaries that the text before it introduces in bold.
func promises(t *testing.T) (rows []promise, adversaries map[string]bool) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root(t), "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(b), "<!-- promises -->\n")
	table, _, closed := strings.Cut(rest, "<!-- /promises -->")
	if !found || !closed {
		t.Fatal("SECURITY.md has no table of promises")
	}
	adversaries = map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^- \*\*([a-z]+)\*\*:`).FindAllStringSubmatch(before, -1) {
		adversaries[m[1]] = true
	}
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if lines[0] != promiseColumns {
		t.Errorf("the table begins with %s, want %s", lines[0], promiseColumns)
	}
	for _, line := range lines[min(2, len(lines)):] {
		p := promise{line: line}
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			p.cells = append(p.cells, strings.TrimSpace(cell))
		}
		rows = append(rows, p)
	}
	return rows, adversaries
}

// TestPromisesAreTested keeps SECURITY.md's table of promises and the tests in step: each promise says against whom, what is
// not promised, and which tests fail if it is broken; those tests exist; and every test with the hostile broker stands there.
func TestPromisesAreTested(t *testing.T) {
	known := testNames(t)
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	listed := map[string]bool{}
	rows, adversaries := promises(t)
	if len(rows) < 16 || len(adversaries) < 5 {
		t.Errorf("SECURITY.md lists %d promises against %d adversaries only", len(rows), len(adversaries))
	}
	for _, p := range rows {
		if len(p.cells) != 5 || slices.Contains(p.cells, "") {
			t.Errorf("%d cells, or an empty one: %s", len(p.cells), p.line)
			continue
		}
		for who := range strings.SplitSeq(p.cells[1], ", ") {
			if !adversaries[who] {
				t.Errorf("the adversary %q is not introduced: %s", who, p.line)
			}
		}
		tests := named.FindAllStringSubmatch(p.cells[4], -1)
		if len(tests) == 0 {
			t.Errorf("no test is named: %s", p.line)
		}
		for _, m := range tests {
			listed[m[1]] = true
			if !known[m[1]] {
				t.Errorf("%s does not exist: %s", m[1], p.line)
			}
		}
	}
	hostile, err := filepath.Glob(filepath.Join(root(t), "deploy", "relaytest", "hostile*_test.go"))
	if err != nil || len(hostile) < 5 {
		t.Fatalf("%d files with the hostile broker, %v", len(hostile), err)
	}
	for _, path := range hostile {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(b), -1) {
			if !listed[m[1]] {
				t.Errorf("%s of %s stands for no promise in SECURITY.md", m[1], filepath.Base(path))
			}
		}
	}
}
