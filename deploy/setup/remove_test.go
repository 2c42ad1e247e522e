package setup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

// three is a relay whose ui calls both services, and batch one of them.
func three(t *testing.T) (dir string, r Result) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "relay")
	return dir, mustInit(t, Config{Dir: dir, Apps: []App{{Name: "ui"}, {Name: "batch", Calls: []string{"billing"}}}, Services: []string{"middleware", "billing"}})
}

// What goes is gone from everywhere, with its next and old keys; who stays keeps all that is theirs, and so does the user.
func TestRemove(t *testing.T) {
	t.Parallel()
	dir, made := three(t)
	for _, kind := range []Kind{Identity, NATSUser} {
		rotateTo(t, dir, "batch", kind, Add, Switch)
	}
	rotateTo(t, dir, "ui", Identity, Add)
	notes := filepath.Join(dir, "batch", "notes.txt")
	if err := os.WriteFile(notes, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := made.Side(relay.RoleApp, "batch")
	before := tree(t, dir)
	r, err := Remove(dir, []string{"batch"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	after := tree(t, dir)
	var changed []string
	for name, text := range before {
		switch {
		case name == "batch/" || name == "batch/notes.txt":
			if after[name] != text {
				t.Errorf("%s is gone", name)
			}
		case strings.HasPrefix(name, "batch/"):
			if _, there := after[name]; there {
				t.Errorf("%s is still there", name)
			}
		case after[name] != text:
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	if want := []string{"billing/kit.json", "billing/trust.json", "nats-server.conf", "setup.json"}; !slices.Equal(changed, want) {
		t.Errorf("%v changed, want %v", changed, want)
	}
	if len(r.Sides) != 1 || len(r.Changed) != len(changed) || len(r.Deleted) != 6 || !slices.Equal(r.Left, []string{notes}) {
		t.Errorf("%+v", r)
	}
	for name, text := range after {
		if strings.Contains(text, "batch") || strings.Contains(text, gone.Kid) || strings.Contains(text, gone.user.public) {
			t.Errorf("%s still speaks of it", name)
		}
	}
	wantNoFaults(t, dir)
	again := mustInit(t, Config{Dir: dir})
	if again.Side(relay.RoleApp, "batch") != nil || len(again.Sides) != 3 {
		t.Errorf("%+v", again.Sides)
	}
	wantPair(t, again, "ui", "middleware")
	wantPair(t, again, "ui", "billing")
	later := mustInit(t, Config{Dir: dir, Apps: []App{{Name: "batch"}}})
	if s := later.Side(relay.RoleApp, "batch"); !s.New || s.Kid == gone.Kid {
		t.Errorf("it came back as %s, once %s", s.Kid, gone.Kid)
	}
	if _, err := Remove(dir, nil, []string{"billing"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "billing")); err == nil {
		t.Error("the directory of billing is left, and empty")
	}
}

func rotateTo(t *testing.T, dir, name string, kind Kind, steps ...Step) {
	t.Helper()
	for _, step := range steps {
		if _, err := Rotate(dir, "", name, kind, step); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRemoveRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		apps, services []string
		want           []string
	}{
		"nothing":              {nil, nil, []string{"name an app (--app)"}},
		"unknown":              {[]string{"middleware", "nosuch"}, []string{"ui"}, []string{`no app of the name "middleware"`, `no app of the name "nosuch"`, `no service of the name "ui"`}},
		"all apps":             {[]string{"ui", "batch"}, nil, []string{"delete the directory"}},
		"all services":         {nil, []string{"middleware", "billing"}, []string{"delete the directory"}},
		"an app's only one":    {nil, []string{"billing"}, []string{`app "batch" would call no service`, "obo init --app batch=SERVICE"}},
		"a service nobody has": {[]string{"ui"}, nil, []string{`no app would call service "middleware"`}},
		"a path":               {[]string{"../x"}, nil, []string{"no app of the name"}},
	} {
		dir, _ := three(t)
		before := tree(t, dir)
		_, err := Remove(dir, c.apps, c.services)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v lacks %q", name, err, want)
			}
		}
		if after := tree(t, dir); len(after) != len(before) {
			t.Errorf("%s: files are gone", name)
		}
		for file, text := range tree(t, dir) {
			if before[file] != text {
				t.Errorf("%s: %s changed", name, file)
			}
		}
	}
	dir, _ := three(t)
	if r, err := Remove(dir, []string{"ui"}, []string{"middleware"}); err != nil || len(r.Sides) != 2 {
		t.Errorf("both at once: %v", err)
	}
	empty := t.TempDir()
	if _, err := Remove(empty, []string{"ui"}, nil); err == nil || !strings.Contains(err.Error(), "has not been set up") {
		t.Error(err)
	}
}

// Of a name that is both, one goes and the other keeps its keys, whichever of them has the files with the plain names.
func TestRemoveOneOfTwoOfAName(t *testing.T) {
	t.Parallel()
	for _, role := range []relay.Role{relay.RoleApp, relay.RoleService} {
		for _, first := range []relay.Role{relay.RoleApp, relay.RoleService} {
			dir := t.TempDir()
			cfg := Config{Dir: dir, Apps: []App{{Name: "ui"}}, Services: []string{"billing"}}
			for range 2 {
				if first == relay.RoleApp {
					cfg.Apps = append(cfg.Apps, App{Name: "both"})
				} else {
					cfg.Services = append(cfg.Services, "both")
				}
				first = map[relay.Role]relay.Role{relay.RoleApp: relay.RoleService, relay.RoleService: relay.RoleApp}[first]
				mustInit(t, cfg)
			}
			other, apps, services := relay.RoleService, []string{"both"}, []string(nil)
			if role == relay.RoleService {
				other, apps, services = relay.RoleApp, nil, apps
			}
			want := mustInit(t, cfg).Side(other, "both")
			if _, err := Remove(dir, apps, services); err != nil {
				t.Fatal(err)
			}
			r := mustInit(t, Config{Dir: dir})
			if got := r.Side(other, "both"); got.Kid != want.Kid || got.KeyFile != want.KeyFile || r.Side(role, "both") != nil {
				t.Errorf("%s removed, %s: %+v, want %+v", role, other, got, want)
			}
			back := mustInit(t, cfg)
			if got := back.Side(other, "both"); got.Kid != want.Kid || back.Side(role, "both").Kid == want.Kid {
				t.Errorf("%s came back, %s: %+v, want %+v", role, other, got, want)
			}
			wantNoFaults(t, dir)
		}
	}
}

// A removal that breaks off, at whichever file, is completed by the next; until then obo init has it as it was.
func TestRemoveBreaksOff(t *testing.T) {
	t.Parallel()
	for n, broke := 1, true; broke; n++ {
		dir, _ := three(t)
		written := 0
		_, err := remove(dir, []string{"batch"}, nil, files{fill: func(f *os.File, data []byte) (int, error) {
			if written++; written == n {
				return 0, syscall.ENOSPC
			}
			return f.Write(data)
		}})
		if broke = err != nil; !broke {
			if n < 4 {
				t.Errorf("only %d files", n-1)
			}
			return
		}
		if n%2 == 0 {
			wantPair(t, mustInit(t, Config{Dir: dir}), "batch", "billing")
		}
		if _, err := Remove(dir, []string{"batch"}, nil); err != nil {
			t.Errorf("file %d: %v", n, err)
		}
		wantNoFaults(t, dir)
		if _, err := os.Stat(filepath.Join(dir, "batch")); err == nil {
			t.Errorf("file %d: batch is still there", n)
		}
		wantPair(t, mustInit(t, Config{Dir: dir}), "ui", "billing")
	}
}
