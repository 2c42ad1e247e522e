package setup

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

func rotationDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "relay")
	mustInit(t, Config{Dir: dir, Apps: []App{{Name: "ui"}, {Name: "batch"}}, Services: []string{"middleware"}})
	return dir
}

func mustRotate(t *testing.T, dir string, role relay.Role, name string, kind Kind, step Step) Rotation {
	t.Helper()
	r, err := Rotate(dir, role, name, kind, step)
	if err != nil {
		t.Fatalf("%s %s: %v", step, kind, err)
	}
	return r
}

func loadKit(t *testing.T, dir, name string, role relay.Role) *relay.Side {
	t.Helper()
	side, err := (&relay.Settings{KitFile: filepath.Join(dir, name, "kit.json"), Hints: relay.HintsFull}).Load(role)
	if err != nil {
		t.Fatal(err)
	}
	return side
}

func wantNoFaults(t *testing.T, dir string) {
	t.Helper()
	if _, faults, err := Keys(dir); err != nil || len(faults) != 0 {
		t.Errorf("%v, %v", faults, err)
	}
}

// Of each step: who signs with what, who trusts what, and what has changed.
func TestRotateIdentity(t *testing.T) {
	t.Parallel()
	dir := rotationDir(t)
	delivered := filepath.Join(t.TempDir(), "kit.json")
	deliver := func() {
		data, err := os.ReadFile(filepath.Join(dir, "ui", "kit.json"))
		if err == nil {
			err = os.WriteFile(delivered, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	wantStale := func(want ...string) {
		t.Helper()
		got, err := Stale(dir, delivered)
		if err != nil || len(got) != len(want) {
			t.Errorf("%q, %v, want %q", got, err, want)
			return
		}
		for i, w := range want {
			if !strings.Contains(got[i], w) {
				t.Errorf("%q, want %q", got[i], w)
			}
		}
	}
	old := loadKit(t, dir, "middleware", relay.RoleService).Identity.Kid()
	trusts := func(kids ...string) {
		t.Helper()
		slices.Sort(kids)
		for _, app := range []string{"ui", "batch"} {
			if got := loadKit(t, dir, app, relay.RoleApp).Trust.Kids(relay.RoleService, "middleware"); !slices.Equal(got, kids) {
				t.Errorf("%s trusts %v, want %v", app, got, kids)
			}
			if trust, err := relay.LoadTrust(filepath.Join(dir, app, "trust.json")); err != nil || !slices.Equal(trust.Kids(relay.RoleService, "middleware"), kids) {
				t.Errorf("%s's trust file: %v", app, err)
			}
		}
		wantNoFaults(t, dir)
	}
	signs := func(kid string) {
		t.Helper()
		if got := loadKit(t, dir, "middleware", relay.RoleService).Identity.Kid(); got != kid {
			t.Errorf("signs with %s, want %s", got, kid)
		}
	}
	deliver()
	next := mustRotate(t, dir, "", "middleware", Identity, Add).Key
	trusts(old, next)
	signs(old)
	wantStale("lacks key " + next)
	if again := mustRotate(t, dir, "", "middleware", Identity, Add); again.Key != next || len(again.Changed) != 0 {
		t.Errorf("a second add: %+v", again)
	}
	mustInit(t, Config{Dir: dir})
	trusts(old, next)
	deliver()
	r := mustRotate(t, dir, relay.RoleService, "middleware", Identity, Switch)
	if again := mustRotate(t, dir, "", "middleware", Identity, Switch); again.Key != next || len(again.Changed) != 0 {
		t.Errorf("a second switch: %+v", again)
	}
	trusts(old, next)
	signs(next)
	wantStale()
	for _, path := range r.Changed {
		if !strings.Contains(path, "/middleware/") {
			t.Errorf("a switch changes %s", path)
		}
	}
	if _, err := Rotate(dir, "", "middleware", Identity, Add); err == nil || !strings.Contains(err.Error(), "retire it first") {
		t.Errorf("add before the old one is retired: %v", err)
	}
	if r := mustRotate(t, dir, "", "middleware", Identity, Retire); r.Key != old {
		t.Errorf("retired %s", r.Key)
	}
	trusts(next)
	signs(next)
	wantStale("trusts key " + old)
	deliver()
	mustInit(t, Config{Dir: dir, NATSURL: "nats://broker.lan:4222"})
	wantStale("names another NATS server")
	deliver()
	if err := os.WriteFile(delivered, []byte(`{"type":"obo.v1.kit","role":"app"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	wantStale("cannot be read: kit: name is not a name; ")
	for name, text := range tree(t, dir) {
		if strings.Contains(name, "key") && !strings.HasPrefix(text, "-rw-------") {
			t.Errorf("%s: %.10s", name, text)
		}
		if strings.Contains(name, "-old") || strings.Contains(name, "-next") {
			t.Errorf("%s is left", name)
		}
	}
}

func TestRotateNATSUser(t *testing.T) {
	t.Parallel()
	dir := rotationDir(t)
	conf := func() string {
		data, err := os.ReadFile(filepath.Join(dir, "nats-server.conf"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	seed := func() string { return loadKit(t, dir, "ui", relay.RoleApp).Connect.NKeySeed }
	first, old := seed(), publicUser(seed())
	next := mustRotate(t, dir, "", "ui", NATSUser, Add).Key
	if text := conf(); !strings.Contains(text, old) || !strings.Contains(text, next) || seed() != first {
		t.Error("after add")
	}
	wantNoFaults(t, dir)
	mustRotate(t, dir, "", "ui", NATSUser, Switch)
	if text := conf(); !strings.Contains(text, old) || !strings.Contains(text, next) || publicUser(seed()) != next {
		t.Error("after switch")
	}
	wantNoFaults(t, dir)
	mustRotate(t, dir, "", "ui", NATSUser, Retire)
	if text := conf(); strings.Contains(text, old) || !strings.Contains(text, next) || publicUser(seed()) != next {
		t.Error("after retire")
	}
	wantNoFaults(t, dir)
}

// A step that breaks off at any file is completed by making it again, and at no moment is the key in use untrusted.
func TestRotateBreaksOff(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		dir, broke := rotationDir(t), false
		for _, step := range []Step{Add, Switch, Retire} {
			written := 0
			full := files{fill: func(f *os.File, data []byte) (int, error) {
				if written++; written == n {
					return 0, syscall.ENOSPC
				}
				return f.Write(data)
			}}
			if _, err := rotate(dir, "", "ui", Identity, step, full); err == nil {
				continue
			}
			broke = true
			kit, trust := loadKit(t, dir, "ui", relay.RoleApp), loadKit(t, dir, "middleware", relay.RoleService).Trust
			if !trust.Trusts(relay.RoleApp, "ui", kit.Identity.Kid()) {
				t.Errorf("%s, file %d: the key in use is not trusted", step, n)
			}
			if _, err := Rotate(dir, "", "ui", Identity, step); err != nil {
				t.Errorf("%s, file %d: %v", step, n, err)
			}
			wantNoFaults(t, dir)
		}
		if !broke {
			if n < 4 {
				t.Errorf("only %d files", n-1)
			}
			return
		}
	}
}

func TestRotateFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustInit(t, Config{Dir: dir, Apps: []App{{Name: "ui", Calls: []string{"both"}}, {Name: "both", Calls: []string{"other"}}}, Services: []string{"both", "other"}})
	for want, f := range map[string]func() error{
		"has not been set up":           func() error { _, err := Rotate(t.TempDir(), "", "ui", Identity, Add); return err },
		`no app or service of the name`: func() error { _, err := Rotate(dir, "", "nosuch", Identity, Add); return err },
		`no service of the name "ui"`:   func() error { _, err := Rotate(dir, relay.RoleService, "ui", Identity, Add); return err },
		"say which with --role":         func() error { _, err := Rotate(dir, "", "both", Identity, Add); return err },
		"make one with obo keys add":    func() error { _, err := Rotate(dir, "", "ui", NATSUser, Switch); return err },
		"no old NATS user to retire":    func() error { _, err := Rotate(dir, "", "ui", NATSUser, Retire); return err },
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	mustRotate(t, dir, relay.RoleApp, "both", Identity, Add)
	if _, err := os.Stat(filepath.Join(dir, "both", "app-key-next.json")); err != nil {
		t.Error(err)
	}
}

// What a command that was killed has left half written is taken away by the next one: it may hold a key.
func TestLeftoversAreTakenAway(t *testing.T) {
	t.Parallel()
	dir := rotationDir(t)
	want := tree(t, dir)
	leave := func() {
		for _, folder := range []string{".", "ui", "middleware", "inspector", "system", "nats/context", temporary + "1/nats/context"} {
			if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, folder, temporary+"2"), []byte("a key"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, next := range []func(){
		func() { mustInit(t, Config{Dir: dir}) },
		func() { _, _ = Rotate(dir, "", "ui", Identity, Retire) }, // there is nothing to retire
	} {
		leave()
		next()
		if got := tree(t, dir); !maps.Equal(got, want) {
			t.Errorf("%v", slices.Sorted(maps.Keys(got)))
		}
	}
}

// Nothing else goes: neither what others keep beside a relay, nor anything of a directory that was named by mistake.
func TestOthersFilesStay(t *testing.T) {
	t.Parallel()
	relays, elsewhere := rotationDir(t), t.TempDir()
	mistaken := t.TempDir()
	theirs := func(dir string) {
		if err := os.Symlink(elsewhere, filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		for _, folder := range []string{".", "mine/deep", "link"} {
			for _, name := range []string{".new-1", ".new-letter", temporary + "1"} {
				if folder == "." && name == temporary+"1" {
					continue // there it would be ours
				}
				if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, folder, name), []byte("mine"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, dir := range []string{relays, mistaken} {
		theirs(dir)
		want, there := tree(t, dir), tree(t, elsewhere)
		if dir == relays {
			mustInit(t, Config{Dir: dir})
		} else if _, err := Init(Config{Dir: dir, Apps: []App{{Name: "ui"}}}); err == nil { // without a service
			t.Error("a relay without a service")
		}
		if _, err := Rotate(dir, "", "ui", Identity, Retire); err == nil {
			t.Error("there was nothing to retire")
		}
		if got := tree(t, dir); !maps.Equal(got, want) || !maps.Equal(tree(t, elsewhere), there) {
			t.Errorf("%v, %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(tree(t, elsewhere))), slices.Sorted(maps.Keys(want)))
		}
	}
}
