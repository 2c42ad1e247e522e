package container

import (
	"debug/buildinfo"
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

// statements are the Containerfile's, each its first word and the rest.
func statements(t *testing.T) [][2]string {
	t.Helper()
	text, err := os.ReadFile("Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	var out [][2]string
	for line := range strings.Lines(string(text)) {
		if word, rest, _ := strings.Cut(strings.TrimSpace(line), " "); word != "" && !strings.HasPrefix(word, "#") {
			out = append(out, [2]string{word, rest})
		}
	}
	return out
}

// The build stage does here what it would do in its image, on what it copies and nothing else. What the last stage takes from it
// is all that an image without libraries needs, and what the licences of others ask for.
func TestImage(t *testing.T) {
	t.Parallel()
	src, stage, from, user, path := t.TempDir(), 0, "", "", ""
	env := append(os.Environ(), "GOFLAGS=", "MAKEFLAGS=") // those of a make that runs the tests
	for _, s := range statements(t) {
		words := strings.Fields(s[1])
		switch s[0] {
		case "FROM":
			stage, user = stage+1, ""
		case "COPY":
			if source, ok := strings.CutPrefix(s[1], "--from=build /src/"); ok && stage == 2 {
				from, path, _ = strings.Cut(source, " ")
				continue
			}
			for _, name := range words[:len(words)-1] {
				if err := copyInto(filepath.Join(src, name), filepath.Join(root, name)); err != nil || stage != 1 {
					t.Fatalf("COPY %s in stage %d: %v", s[1], stage, err)
				}
			}
		case "ARG":
			env = append(env, s[1])
		case "RUN":
			if s[1] == "go mod download" {
				continue // the modules are here, or the tests would not be
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", s[1])
			cmd.Dir, cmd.Env = src, env
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", s[1], err, out)
			}
		case "USER":
			user = s[1]
		case "ENV":
			if s[1] != "PATH="+strings.TrimSuffix(path, "/")+":$PATH" {
				t.Errorf("the commands are in %s, and it is %s", path, s[1])
			}
		case "WORKDIR", "CMD":
		default:
			t.Errorf("%v is not checked by this test", s)
		}
	}
	// kubelet cannot tell from a name that it is not root's, and does not start such an image where runAsNonRoot asks for it.
	if uid, err := strconv.Atoi(user); err != nil || uid == 0 {
		t.Errorf("the image runs as %q", user)
	}
	image := filepath.Join(src, from)
	if _, err := os.Stat(filepath.Join(image, "LICENSE")); err != nil {
		t.Error(err)
	}
	for _, command := range []string{"obo", "obo-broker", "obo-doctor", "obo-publisher", "obo-worker"} {
		wantStatic(t, filepath.Join(image, command))
		wantLicences(t, filepath.Join(image, command), filepath.Join(image, "THIRD_PARTY."+command))
	}
}

func copyInto(to, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(to, os.DirFS(from))
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

func wantStatic(t *testing.T, path string) {
	t.Helper()
	binary, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer binary.Close()
	libraries, err := binary.ImportedLibraries()
	if err != nil || len(libraries) > 0 || slices.ContainsFunc(binary.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Errorf("%s is not static: %v %v", path, libraries, err)
	}
}

// wantLicences asks the binary itself which modules are in it, and wants a text of each.
func wantLicences(t *testing.T, path, notices string) {
	t.Helper()
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(notices)
	if err != nil {
		t.Fatal(err)
	}
	if len(info.Deps) < 10 || !strings.Contains(string(text), "\nstdlib (LICENSE)\n") {
		t.Errorf("%s: %d modules, or no text of Go's own", notices, len(info.Deps))
	}
	for _, m := range info.Deps {
		if !strings.Contains(string(text), "\n  "+m.Path+" "+m.Version+": ") || !regexp.MustCompile(`(?mi)^`+regexp.QuoteMeta(m.Path)+` \((licen|copying)`).Match(text) {
			t.Errorf("%s lacks the licence of %s %s", notices, m.Path, m.Version)
		}
	}
}

// The image that compiles knows the language of go.mod, and the version is the Makefile's.
func TestCompilerAndVersion(t *testing.T) {
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
	for _, want := range [][2]string{{"FROM", "docker.io/library/golang:" + language[1] + " AS build"}, {"ARG", "VERSION=" + version[1]}} {
		if !slices.Contains(statements(t), want) {
			t.Errorf("the Containerfile lacks %v", want)
		}
	}
}
