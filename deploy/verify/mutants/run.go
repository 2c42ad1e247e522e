package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// timeout of one test. A test that waits for what no longer comes has its own patience, which is shorter.
const timeout = 5 * time.Minute

// runner takes defences out.
type runner struct {
	root, dir string
	slots     chan struct{} // one for each build or test at a time

	mu     sync.Mutex
	caught map[string]bool
	faults []error
}

// batch is mutants in one build, all for tests of one package.
type batch struct {
	dir     string
	mutants []mutant
	choose  bool // by the environment; else there is one, and it is in force
}

// runAll returns the names of those that were caught, and an error if any other is left.
func runAll(ctx context.Context, root, dir string, mutants []mutant, parallel int) (map[string]bool, error) {
	r := &runner{root: root, dir: dir, slots: make(chan struct{}, parallel), caught: map[string]bool{}}
	var wg sync.WaitGroup
	for _, of := range byPackage(mutants) {
		wg.Go(func() { r.all(ctx, of) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		r.faults = append(r.faults, err)
	}
	return r.caught, errors.Join(r.faults...)
}

func byPackage(mutants []mutant) [][]mutant {
	var out [][]mutant
	index := map[string]int{}
	for _, m := range mutants {
		i, known := index[m.Package]
		if !known {
			i, index[m.Package] = len(out), len(out)
			out = append(out, nil)
		}
		out[i] = append(out[i], m)
	}
	return out
}

// all tries the mutants that are for tests of one package.
func (r *runner) all(ctx context.Context, mutants []mutant) {
	dir := filepath.Join(r.dir, strings.NewReplacer("/", "_", ".", "").Replace(mutants[0].Package))
	many, single, err := r.overlay(dir, mutants)
	if err == nil {
		if err = r.build(ctx, many, mutants[0].Package); err != nil { // one of them: which?
			for i, m := range many.mutants {
				single = append(single, batch{dir: filepath.Join(dir, "alone"+strconv.Itoa(i)), mutants: []mutant{m}})
			}
			fmt.Printf("%s: its mutants do not compile together, each has a build of its own: %v\n", mutants[0].Package, err)
			many.mutants = nil
			err = r.build(ctx, many, mutants[0].Package) // for the next
		}
	}
	if err != nil {
		r.fault(fmt.Errorf("%s: %w", mutants[0].Package, err))
		return
	}
	sound := r.unchanged(ctx, many, mutants)
	var wg sync.WaitGroup
	for i, m := range many.mutants {
		if !slices.Contains(sound, m) {
			continue
		}
		wg.Go(func() { r.try(ctx, many, m, strconv.Itoa(i)) })
	}
	for _, b := range single {
		m := b.mutants[0]
		if !slices.Contains(sound, m) {
			continue
		}
		wg.Go(func() {
			mutated, err := m.mutate(r.root)
			if err == nil {
				err = r.write(b.dir, map[string][]byte{m.File: mutated})
			}
			if err == nil {
				err = r.build(ctx, b, m.Package)
			}
			if err != nil {
				r.missed(m, fmt.Errorf("does not compile, which proves nothing: %w", err))
				return
			}
			r.try(ctx, b, m, "")
			_ = os.RemoveAll(b.dir) // the space
		})
	}
	wg.Wait()
	_ = os.RemoveAll(dir)
}

// overlay writes the build that holds many, and says which need one of their own.
func (r *runner) overlay(dir string, mutants []mutant) (many batch, single []batch, err error) {
	many = batch{dir: filepath.Join(dir, "many"), choose: true}
	sources, variants := map[string]*source{}, map[string][]variant{}
	for i, m := range mutants {
		mutated, err := m.mutate(r.root)
		if err != nil {
			return many, nil, err
		}
		s := sources[m.File]
		if s == nil {
			text, err := os.ReadFile(filepath.Join(r.root, m.File))
			if err == nil {
				s, err = parseSource(text)
			}
			if err != nil {
				return many, nil, err
			}
			sources[m.File] = s
		}
		v, ok := newVariant(len(many.mutants), s, mutated)
		if !ok || strings.Contains(m.Package, "/cmd/") { // tests of commands run them in an environment of their own
			single = append(single, batch{dir: filepath.Join(dir, strconv.Itoa(i)), mutants: []mutant{m}})
			continue
		}
		many.mutants = append(many.mutants, m)
		variants[m.File] = append(variants[m.File], v)
	}
	files := map[string][]byte{}
	for path, vs := range variants {
		s := sources[path]
		files[path] = s.with(vs)
		files[filepath.Join(filepath.Dir(path), "mutant_chosen.go")] = chooser(s.file.Name.Name)
	}
	return many, single, r.write(many.dir, files)
}

// write puts files and the -overlay that puts them in place into dir.
func (r *runner) write(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	replace := map[string]string{}
	for path, text := range files {
		original, err := filepath.Abs(filepath.Join(r.root, path))
		if err != nil {
			return err
		}
		replace[original] = filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(replace[original], text, 0o600); err != nil {
			return err
		}
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "overlay.json"), b, 0o600)
}

func (r *runner) build(ctx context.Context, b batch, pkg string) error {
	r.slots <- struct{}{}
	defer func() { <-r.slots }()
	args := []string{"test", "-c", "-ldflags=-s -w", "-o", filepath.Join(b.dir, "mutant.test")}
	if !b.choose || len(b.mutants) > 0 {
		args = append(args, "-overlay="+filepath.Join(b.dir, "overlay.json"))
	}
	cmd := exec.CommandContext(ctx, "go", append(args, pkg)...)
	cmd.Dir = r.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// unchanged runs the tests with every defence in place, and says of those that do not pass: they would catch anything.
func (r *runner) unchanged(ctx context.Context, b batch, mutants []mutant) (sound []mutant) {
	var names []string
	for _, m := range mutants {
		if !slices.Contains(names, m.Test) {
			names = append(names, m.Test)
		}
	}
	out, err := r.test(ctx, b, mutants[0].Package, "", names...)
	for _, m := range mutants {
		if strings.Contains(out, "--- PASS: "+m.Test+" ") {
			sound = append(sound, m)
		} else if ctx.Err() == nil {
			r.missed(m, fmt.Errorf("its test does not pass as it is: %v\n%s", err, out))
		}
	}
	fmt.Printf("unchanged %-60s %d tests\n", mutants[0].Package, len(names))
	return sound
}

// try runs the test that has to fail.
func (r *runner) try(ctx context.Context, b batch, m mutant, id string) {
	out, err := r.test(ctx, b, m.Package, id, m.Test)
	switch {
	case ctx.Err() != nil:
	case err == nil && strings.Contains(out, "--- PASS: "+m.Test+" "):
		r.missed(m, errors.New("SURVIVED"))
	case err != nil && strings.Contains(out, "--- FAIL: "+m.Test+" "):
		r.mu.Lock()
		defer r.mu.Unlock()
		r.caught[m.Name] = true
		fmt.Printf("caught    %-60s %s\n          %s\n", m.Name, m.Test, firstComplaint(out))
	default:
		r.missed(m, fmt.Errorf("the test neither passed nor failed: %v\n%s", err, out))
	}
}

func (r *runner) missed(m mutant, err error) {
	fmt.Printf("NOT       %-60s %s\n          %v\n", m.Name, m.Test, err)
	r.fault(fmt.Errorf("%s: %s: %w", m.against, m.Name, err))
}

func (r *runner) fault(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, err)
}

// test runs some of a build's tests where go test would.
func (r *runner) test(ctx context.Context, b batch, pkg, id string, names ...string) (string, error) {
	r.slots <- struct{}{}
	defer func() { <-r.slots }()
	cmd := exec.CommandContext(ctx, filepath.Join(b.dir, "mutant.test"), "-test.v", "-test.count=1", "-test.timeout="+timeout.String(),
		"-test.run=^("+strings.Join(names, "|")+")$")
	cmd.Dir = filepath.Join(r.root, pkg)
	cmd.Env = append(os.Environ(), chosen+"="+id)
	if !b.choose { // for tests that build commands
		cmd.Env = append(cmd.Env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+filepath.Join(b.dir, "overlay.json")))
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

var complaint = regexp.MustCompile(`(?m)^ +(\w+_test\.go:\d+: .*|FAIL: .*)$`) // of a test, of a script

func firstComplaint(out string) string {
	if m := complaint.FindStringSubmatch(out); m != nil {
		return m[1][:min(len(m[1]), 160)]
	}
	return "failed"
}
