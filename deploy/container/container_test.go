package container

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// statements are the Containerfile's, each as its words.
func statements(t *testing.T) [][]string {
	t.Helper()
	text, err := os.ReadFile("Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			out = append(out, words)
		}
	}
	return out
}

// Whatever is copied is there: from the project, or made by the stage it is copied from.
func TestCopiesWhatExists(t *testing.T) {
	t.Parallel()
	stages := map[string][]string{} // what each stage holds
	var copied []string             // folders and files of the project in the current stage
	stage, user := "", ""
	for _, words := range statements(t) {
		switch words[0] {
		case "FROM":
			stages[stage], copied, stage, user = copied, nil, "", ""
			if len(words) == 4 && words[2] == "AS" {
				stage = words[3]
			}
		case "COPY":
			args := words[1:]
			from, isStage := strings.CutPrefix(args[0], "--from=")
			if isStage {
				args = args[1:]
				if stages[from] == nil {
					t.Errorf("%v: there is no stage %s before", words, from)
				}
			}
			for _, source := range args[:len(args)-1] {
				switch {
				case !isStage:
					if _, err := os.Stat(filepath.Join(root, source)); err != nil {
						t.Errorf("%v: %v", words, err)
					}
					copied = append(copied, source)
				case source != "/src/bin/" && !slices.Contains(stages[from], strings.TrimPrefix(source, "/src/")):
					t.Errorf("%v: stage %s does not hold %s", words, from, source)
				}
			}
		case "USER":
			user = words[1]
		case "WORKDIR", "RUN", "ARG", "CMD":
		default:
			t.Errorf("%v is not checked by this test", words)
		}
	}
	// kubelet cannot tell from a name that it is not root's, and does not start such an image where runAsNonRoot asks for it.
	if uid, err := strconv.Atoi(user); err != nil || uid == 0 {
		t.Errorf("the image runs as %q", user)
	}
	for _, folder := range []string{"schemas", "relay", "publisher", "worker", "deploy", "go.mod", "go.sum", "Makefile"} {
		if !slices.Contains(stages["build"], folder) {
			t.Errorf("the build has no %s: %v", folder, stages["build"])
		}
	}
}

// The image that compiles knows the language of go.mod, and make build is what it runs.
func TestCompilerAndTarget(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	language := regexp.MustCompile(`(?m)^go (1\.\d+)`).FindStringSubmatch(read("go.mod"))
	version := regexp.MustCompile(`(?m)^VERSION +\?= (\S+)$`).FindStringSubmatch(read("Makefile"))
	if language == nil || version == nil {
		t.Fatalf("go.mod %v, Makefile %v", language, version)
	}
	for _, want := range [][]string{
		{"FROM", "docker.io/library/golang:" + language[1], "AS", "build"}, {"ARG", "VERSION=" + version[1]}, {"RUN", "make", "build", "VERSION=$VERSION"},
	} {
		if !slices.ContainsFunc(statements(t), func(words []string) bool { return slices.Equal(words, want) }) {
			t.Errorf("the Containerfile lacks %v", want)
		}
	}
	if !strings.Contains(read("Makefile"), "CGO_ENABLED=0 $(GO) build") || !strings.Contains(read("Makefile"), "-o $(BIN)/ $(COMMANDS)") {
		t.Error("make build makes no static binaries, or not in bin/")
	}
}

// An image without libraries can run them only if they need none.
func TestBinariesAreStatic(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, pkg := range []string{"publisher/cmd/obo-publisher", "worker/cmd/obo-worker", "deploy/cmd/obo-broker", "deploy/cmd/obo"} {
		out := filepath.Join(dir, filepath.Base(pkg))
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", out, "./"+pkg)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", pkg, err, text)
		}
		binary, err := elf.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		libraries, err := binary.ImportedLibraries()
		if err != nil || len(libraries) > 0 || slices.ContainsFunc(binary.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s is not static: %v %v", pkg, libraries, err)
		}
		_ = binary.Close() // it was read
	}
}
