package supply

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Notices is the text that goes with a binary: which modules are in it, and each of their licences and notices once.
func Notices(command string, modules []Module) (string, error) {
	std, err := standardLibrary()
	if err != nil {
		return "", err
	}
	modules = append([]Module{std}, modules...)
	var head, body strings.Builder
	fmt.Fprintf(&head, "%s contains software of others, under these licences (stdlib is Go's standard library and runtime). Their texts follow. The source of each is the Go module of that name and version.\n\n", command)
	var order []string
	of := map[string][]string{} // text → where it is from
	for _, m := range modules {
		fmt.Fprintf(&head, "  %s %s: %s\n", m.Path, m.Version, strings.Join(m.Licenses, ", "))
		for _, t := range m.Texts {
			text := strings.TrimSpace(t.Content)
			if of[text] == nil {
				order = append(order, text)
			}
			of[text] = append(of[text], m.Path+" ("+t.Name+")")
		}
	}
	for _, text := range order {
		fmt.Fprintf(&body, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 80), strings.Join(of[text], "\n"), text)
	}
	return head.String() + body.String(), nil
}

// standardLibrary is what the Go project itself brings into every binary, under the name that databases of vulnerabilities
// have for it.
func standardLibrary() (Module, error) {
	out, err := exec.Command("go", "env", "GOROOT", "GOVERSION").Output()
	if err != nil {
		return Module{}, fmt.Errorf("go env GOROOT GOVERSION: %w", err)
	}
	root, version, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	root = strings.TrimSpace(root)
	version, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimSpace(version), "go"), " ") // of Go; experiments may follow
	for _, dir := range []string{root, filepath.Dir(root)} {                               // some distributions keep the text above
		if content, err := os.ReadFile(filepath.Join(dir, "LICENSE")); err == nil {
			return Module{Path: "stdlib", Version: version, Licenses: []string{"BSD-3-Clause"}, Texts: []Text{{"LICENSE", string(content)}}}, nil
		}
	}
	return Module{}, fmt.Errorf("%s has no LICENSE: use a Go toolchain from go.dev", root)
}
