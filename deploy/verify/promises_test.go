package verify

import (
	"bufio"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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

// TestPromisesAreTested keeps SECURITY.md's table of promises and the tests in step.
func TestPromisesAreTested(t *testing.T) {
	f, err := os.Open(filepath.Join(root(t), "SECURITY.md"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	known := testNames(t)
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	rows, inside := 0, false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "<!-- promises"):
			inside = true
		case strings.HasPrefix(line, "<!-- /promises"):
			inside = false
		case inside && strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| against"):
			rows++
			tests := named.FindAllStringSubmatch(line, -1)
			if len(tests) == 0 {
				t.Errorf("no test is named for: %s", line)
			}
			for _, m := range tests {
				if !known[m[1]] {
					t.Errorf("%s does not exist: %s", m[1], line)
				}
			}
		}
	}
	if rows < 12 {
		t.Errorf("SECURITY.md lists %d promises only", rows)
	}
}
