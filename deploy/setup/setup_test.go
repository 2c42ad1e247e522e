package setup

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/relay"
)

func mustInit(t *testing.T, cfg Config) Result {
	t.Helper()
	r, err := Init(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tree is every file of a directory with its mode and content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			out[rel+"/"] = info.Mode().String()
			return nil
		}
		if d.Type()&fs.ModeSymlink != 0 {
			out[rel] = info.Mode().String()
			return nil
		}
		data, err := os.ReadFile(path)
		out[rel] = info.Mode().String() + "\n" + string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestInit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "relay")
	r := mustInit(t, Config{Dir: dir, Apps: []App{{Name: "ui"}}, Services: []string{"middleware"}})
	modes := map[string]string{}
	for name, text := range tree(t, dir) {
		modes[name], _, _ = strings.Cut(text, "\n")
	}
	const secret, public, folder = "-rw-------", "-rw-r--r--", "drwx------"
	want := map[string]string{
		"./": folder, "nats-server.conf": public, "setup.json": secret,
		"inspector/": folder, "inspector/nats.nk": secret, "system/": folder, "system/nats.nk": secret,
		"nats/": folder, "nats/context/": folder, "nats/context/obo-inspector.json": secret, "nats/context/obo-system.json": secret,
	}
	for _, side := range []string{"ui/", "middleware/"} {
		want[side], want[side+"trust.json"] = folder, public
		for _, file := range []string{"key.json", "nats.nk", "kit.json"} {
			want[side+file] = secret
		}
	}
	for name, mode := range want {
		if modes[name] != mode {
			t.Errorf("%s has mode %q, want %q", name, modes[name], mode)
		}
	}
	if len(modes) != len(want) {
		t.Errorf("made %v", modes)
	}
	if r.ServerConf != filepath.Join(dir, "nats-server.conf") || len(r.Contexts) != 2 || r.Config.NATSURL != "nats://127.0.0.1:4222" {
		t.Errorf("%+v", r)
	}
	wantPair(t, r, "ui", "middleware")
}

// wantPair loads both sides' files as the commands do, and as a kit.
func wantPair(t *testing.T, r Result, app, service string) {
	t.Helper()
	load := func(role relay.Role, name string) *relay.Side {
		s := r.Side(role, name)
		if s == nil {
			t.Fatalf("no %s %s", role, name)
		}
		one := relay.Settings{KeyFile: s.KeyFile, TrustFile: s.TrustFile, Hints: relay.HintsFull, NATSSettings: relay.NATSSettings{NATS: r.Config.NATSURL, NKeyFile: s.NKeyFile}}
		a, err := one.Load(role)
		if err != nil {
			t.Fatal(err)
		}
		kit := relay.Settings{KitFile: s.KitFile, Hints: relay.HintsFull}
		b, err := kit.Load(role)
		if err != nil {
			t.Fatal(err)
		}
		if a.Identity.Kid() != s.Kid || b.Identity.Kid() != s.Kid || a.Connect.NKeySeed != b.Connect.NKeySeed || b.Name != name || b.Connect.URL != r.Config.NATSURL {
			t.Errorf("%s %s: files and kit differ: %v, %v", role, name, a, b)
		}
		return b
	}
	a, s := load(relay.RoleApp, app), load(relay.RoleService, service)
	if !a.Trust.Trusts(relay.RoleService, service, s.Identity.Kid()) || !s.Trust.Trusts(relay.RoleApp, app, a.Identity.Kid()) {
		t.Errorf("%s and %s do not trust each other", app, service)
	}
}

// A second run changes nothing; a later app joins, and no key changes.
func TestInitAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := Config{Dir: dir, Apps: []App{{Name: "ui"}}, Services: []string{"middleware"}, NATSURL: "nats://127.0.0.1:4333"}
	mustInit(t, first)
	before := tree(t, dir)
	r := mustInit(t, first)
	for name, text := range tree(t, dir) {
		if before[name] != text {
			t.Errorf("%s changed", name)
		}
	}
	if r.Side(relay.RoleApp, "ui").New {
		t.Error("the key is said to be new")
	}
	r = mustInit(t, Config{Dir: dir, Apps: []App{{Name: "batch", Calls: []string{"billing"}}}, Services: []string{"billing"}})
	if read, err := Read(dir); err != nil || read.NATSURL != r.Config.NATSURL || len(read.Apps) != 2 {
		t.Errorf("read %+v, %v", read, err)
	}
	if _, err := Read(t.TempDir()); err == nil || !strings.Contains(err.Error(), "has not been set up") {
		t.Error(err)
	}
	if r.Config.NATSURL != "nats://127.0.0.1:4333" || r.Config.Listen != "127.0.0.1:4333" {
		t.Errorf("the earlier addresses are forgotten: %+v", r.Config)
	}
	after := tree(t, dir)
	for _, name := range []string{"ui/key.json", "ui/nats.nk", "middleware/key.json", "middleware/nats.nk", "inspector/nats.nk", "system/nats.nk", "middleware/trust.json"} {
		if before[name] != after[name] {
			t.Errorf("%s changed", name)
		}
	}
	wantPair(t, r, "ui", "middleware")
	wantPair(t, r, "ui", "billing") // ui calls every service, those that come later too
	wantPair(t, r, "batch", "billing")
	if side, err := relay.LoadTrust(r.Side(relay.RoleApp, "batch").TrustFile); err != nil || side.Knows(relay.RoleService, "middleware") {
		t.Errorf("batch knows middleware, or %v", err)
	}
	if !r.Side(relay.RoleApp, "batch").New || r.Side(relay.RoleApp, "ui").New {
		t.Error("which keys are new is wrong")
	}
}

// One name may be both, whichever came first, and each role keeps its own keys.
// An auditor comes when it is asked for, and stays. Before that, nothing speaks of it.
func TestAudit(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "relay")
	cfg := Config{Dir: dir, Apps: []App{{Name: "ui"}}, Services: []string{"middleware"}}
	if r := mustInit(t, cfg); r.Auditor != "" || len(r.Contexts) != 2 {
		t.Errorf("%+v", r)
	}
	before := tree(t, dir)
	for name, text := range before {
		if strings.Contains(name+strings.ReplaceAll(text, dir, ""), "audit") || strings.Contains(text, "jetstream") {
			t.Errorf("%s: %s", name, text)
		}
	}
	cfg.Audit = true
	mustInit(t, cfg)
	with := tree(t, dir)
	r := mustInit(t, Config{Dir: dir})
	again := tree(t, dir)
	if !r.Config.Audit || r.Auditor != filepath.Join(dir, "auditor", "nats.nk") || len(r.Contexts) != 3 {
		t.Errorf("%+v", r)
	}
	for name, text := range with {
		if again[name] != text {
			t.Errorf("%s changed", name)
		}
	}
	if !strings.Contains(with["nats-server.conf"], `store_dir: "`+filepath.Join(dir, "jetstream")+`"`) {
		t.Errorf("%s", with["nats-server.conf"])
	}
	for _, name := range []string{"auditor/nats.nk", "nats/context/obo-auditor.json"} {
		if !strings.HasPrefix(with[name], "-rw-------") {
			t.Errorf("%s: %.10s", name, with[name])
		}
	}
	for name, text := range before {
		if name != "nats-server.conf" && name != "setup.json" && with[name] != text {
			t.Errorf("%s changed", name)
		}
	}
}

func TestOneNameInBothRoles(t *testing.T) {
	t.Parallel()
	at := func(dir string, name string) string { return filepath.Join(dir, "middleware", name) }
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		cfg := Config{Dir: dir, Apps: []App{{Name: "ui", Calls: []string{"middleware"}}, {Name: "middleware", Calls: []string{"billing"}}}, Services: []string{"middleware", "billing"}}
		r := mustInit(t, cfg)
		if s := r.Side(relay.RoleApp, "middleware"); s.KeyFile != at(dir, "app-key.json") || s.NKeyFile != at(dir, "app-nats.nk") {
			t.Errorf("%+v", s)
		}
		before := tree(t, dir)
		r = mustInit(t, Config{Dir: dir})
		for name, text := range tree(t, dir) {
			if before[name] != text {
				t.Errorf("%s changed", name)
			}
		}
		wantPair(t, r, "ui", "middleware")
		wantPair(t, r, "middleware", "billing")
	})
	t.Run("app first", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		mustInit(t, Config{Dir: dir, Apps: []App{{Name: "middleware"}}, Services: []string{"billing"}})
		before := tree(t, dir)
		cfg := Config{Dir: dir, Apps: []App{{Name: "ui"}}, Services: []string{"middleware"}}
		for range 2 {
			r := mustInit(t, cfg)
			if r.Side(relay.RoleService, "middleware").KeyFile != at(dir, "service-key.json") || tree(t, dir)["middleware/key.json"] != before["middleware/key.json"] {
				t.Errorf("%+v", r.Side(relay.RoleService, "middleware"))
			}
			wantPair(t, r, "middleware", "billing")
			wantPair(t, r, "ui", "middleware")
		}
	})
}

func TestInitFaults(t *testing.T) {
	t.Parallel()
	ok := Config{Apps: []App{{Name: "ui"}}, Services: []string{"middleware"}}
	for name, c := range map[string]struct {
		change func(*Config)
		want   []string
	}{
		"nothing":      {func(c *Config) { *c = Config{Dir: c.Dir} }, []string{"no app", "no service"}},
		"no directory": {func(c *Config) { c.Dir = "" }, []string{"no directory"}},
		"names":        {func(c *Config) { c.Apps[0].Name, c.Services = "UI", []string{"../x", "middleware"} }, []string{`app "UI"`, `service "../x"`}},
		"reserved": {func(c *Config) {
			c.Apps[0].Name, c.Services = "system", []string{"nats", "inspector", "auditor", "jetstream"}
		}, []string{`app "system": a directory`, `service "nats"`, `service "inspector"`, `service "auditor"`, `service "jetstream"`}},
		"not called": {func(c *Config) { c.Apps[0].Calls, c.Services = []string{"a"}, []string{"a", "b"} }, []string{`service "b": no app calls it`}},
		"not there":  {func(c *Config) { c.Apps[0].Calls = []string{"middleware", "x"} }, []string{`app "ui" calls "x"`}},
		"two URLs":   {func(c *Config) { c.NATSURL = "nats://a,nats://b" }, []string{"not one URL"}},
		"password":   {func(c *Config) { c.NATSURL = "nats://u:hunter2@a" }, []string{"leave it out"}},
		"scheme":     {func(c *Config) { c.NATSURL = "ftp://a" }, []string{`scheme "ftp"`}},
		"http":       {func(c *Config) { c.NATSURL = "http://a" }, []string{"write https"}},
		"app":        {func(c *Config) { c.NATSURL = "app:Broker" }, []string{`"Broker" is not the name of an app`}},
		"app, TLS":   {func(c *Config) { c.NATSURL, c.TLSCertFile, c.TLSKeyFile = "app:broker", "cert.pem", "key.pem" }, []string{"leave out the certificate"}},
		"tls":        {func(c *Config) { c.NATSURL = "tls://a" }, []string{"certificate"}},
		"half tls":   {func(c *Config) { c.TLSCertFile = "cert.pem" }, []string{"--tls-cert-file and --tls-key-file"}},
		"listen":     {func(c *Config) { c.Listen = "here" }, []string{`Listen "here"`}},
		"CLI":        {func(c *Config) { c.Dir += "$HOME" }, []string{"without $"}},
		"prefix":     {func(c *Config) { c.SubjectPrefix = "_INBOX" }, []string{"SubjectPrefix"}},
	} {
		dir := filepath.Join(t.TempDir(), "relay")
		cfg := ok
		cfg.Apps, cfg.Dir = slices.Clone(ok.Apps), dir
		c.change(&cfg)
		_, err := Init(cfg)
		if err == nil {
			t.Errorf("%s: no fault", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in: %v", name, want, err)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: a password in: %v", name, err)
		}
		if made, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(made) > 0 {
			t.Errorf("%s: %v was made: %v", name, made, err)
		}
	}
}

// Keys that cannot be used are left alone, and so is a configuration that somebody else wrote.
func TestInitKeepsWhatItDoesNotUnderstand(t *testing.T) {
	t.Parallel()
	cfg := func(dir string) Config {
		return Config{Dir: dir, Apps: []App{{Name: "ui"}}, Services: []string{"middleware"}}
	}
	for file, want := range map[string]string{
		"ui/key.json":        "app ui has a key that cannot be used",
		"middleware/nats.nk": "is not the seed of a NATS user",
		"setup.json":         "setup.json",
	} {
		dir := t.TempDir()
		mustInit(t, cfg(dir))
		path := filepath.Join(dir, filepath.FromSlash(file))
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := tree(t, dir)
		if _, err := Init(cfg(dir)); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", file, err)
		}
		for name, text := range tree(t, dir) {
			if before[name] != text {
				t.Errorf("%s: %s changed", file, name)
			}
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nats-server.conf"), []byte("port: 4222"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(cfg(dir)); err == nil || !strings.Contains(err.Error(), "was not made here") {
		t.Error(err)
	}
	if all := tree(t, dir); len(all) != 2 {
		t.Errorf("%v", all)
	}
	open := t.TempDir()
	mustInit(t, cfg(open))
	if err := os.Chmod(filepath.Join(open, "ui", "key.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(cfg(open)); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
}

// A disk that is full at the nth file leaves whole files only, and the next run completes the work.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), "relay")
		cfg := Config{Dir: dir, Apps: []App{{Name: "ui"}}, Services: []string{"middleware"}}
		written := 0
		full := files{fill: func(f *os.File, data []byte) (int, error) {
			if written++; written == n {
				_, _ = f.Write(data[:len(data)/2])
				return len(data) / 2, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
			}
			return f.Write(data)
		}}
		_, err := initialize(cfg, full)
		if err == nil {
			if n < 10 {
				t.Errorf("only %d files", n-1)
			}
			return
		}
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), ".new-") {
			t.Errorf("file %d: %v", n, err)
		}
		before := tree(t, dir)
		for name := range before {
			if strings.Contains(name, ".new-") {
				t.Errorf("file %d: %s is left behind", n, name)
			}
		}
		wantPair(t, mustInit(t, cfg), "ui", "middleware")
		after := tree(t, dir)
		for name, text := range before {
			if (strings.HasSuffix(name, "key.json") || strings.HasSuffix(name, ".nk")) && after[name] != text {
				t.Errorf("file %d: %s was replaced", n, name)
			}
		}
	}
}

// create never replaces a file, not even one that came in the meantime.
func TestCreateDoesNotReplace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.json")
	f := files{fill: (*os.File).Write}
	if err := f.create(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.create(path, []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), "run this again") {
		t.Error(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "one" {
		t.Errorf("%s, %v", data, err)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for url, want := range map[string][3]string{
		"":                         {"127.0.0.1:4222", "", "nats://127.0.0.1:4222"},
		"nats://localhost":         {"127.0.0.1:4222", "", "nats://localhost"},
		"nats://broker.lan:4333":   {"0.0.0.0:4333", "", "nats://broker.lan:4333"},
		"ws://127.0.0.1:9000":      {"127.0.0.1:4222", "127.0.0.1:9000", "nats://127.0.0.1:4222"},
		"nats://[::1]:4333":        {"[::1]:4333", "", "nats://[::1]:4333"},
		"nats://127.0.0.2":         {"127.0.0.2:4222", "", "nats://127.0.0.2"},
		"ws://[::1]:9000":          {"127.0.0.1:4222", "[::1]:9000", "nats://127.0.0.1:4222"},
		"ws://broker.lan":          {"127.0.0.1:4222", "0.0.0.0:80", "nats://127.0.0.1:4222"},
		"wss://localhost":          {"127.0.0.1:4222", "127.0.0.1:443", "nats://127.0.0.1:4222"},
		"WSS://broker.example":     {"127.0.0.1:4222", "0.0.0.0:8080", "nats://127.0.0.1:4222"},
		" APP:obo-broker ":         {"127.0.0.1:4222", "", "nats://127.0.0.1:4222"},
		"wss://broker.example":     {"127.0.0.1:4222", "0.0.0.0:8080", "nats://127.0.0.1:4222"},
		"wss://broker.example:444": {"127.0.0.1:4222", "0.0.0.0:8080", "nats://127.0.0.1:4222"},
	} {
		r := mustInit(t, Config{Dir: t.TempDir(), Apps: []App{{Name: "ui"}}, Services: []string{"middleware"}, NATSURL: url})
		if c := r.Config; c.Listen != want[0] || c.WebSocket != want[1] || c.CLIURL() != want[2] {
			t.Errorf("%q: listen %q, WebSocket %q, CLI %q", url, c.Listen, c.WebSocket, c.CLIURL())
		}
		var context struct{ URL, NKey string }
		data, err := os.ReadFile(r.Contexts[0])
		if err == nil {
			err = json.Unmarshal(data, &context)
		}
		if err != nil || context.URL != want[2] || context.NKey != r.Inspector {
			t.Errorf("%q: context %+v, %v", url, context, err)
		}
	}
	if natsconf.InspectorContext != "obo-inspector" {
		t.Error("doc.go names another context")
	}
}

// Another URL takes along what followed the one before, and not what was asked for.
func TestAnotherURL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := func(c Config, listen, webSocket string) {
		t.Helper()
		c.Dir = dir
		if c := mustInit(t, c).Config; c.Listen != listen || c.WebSocket != webSocket {
			t.Errorf("listen %q, WebSocket %q, want %q, %q", c.Listen, c.WebSocket, listen, webSocket)
		}
	}
	want(Config{Apps: []App{{Name: "ui"}}, Services: []string{"middleware"}}, "127.0.0.1:4222", "")
	want(Config{NATSURL: "nats://broker.lan:4333"}, "0.0.0.0:4333", "")
	want(Config{Listen: "10.0.0.5:4222", WebSocket: "10.0.0.5:8080"}, "10.0.0.5:4222", "10.0.0.5:8080")
	want(Config{NATSURL: "nats://other.lan:4333"}, "10.0.0.5:4222", "10.0.0.5:8080")
	want(Config{NATSURL: "app:obo-broker"}, "10.0.0.5:4222", "")
}

// Commands that run at the same time come one after the other: none is forgotten, and no file is of two of them.
func TestAtTheSameTime(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "relay")
	names := strings.Fields("a b c d e")
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() {
			if _, err := Init(Config{Dir: dir, Apps: []App{{Name: name}}, Services: []string{"middleware"}}); err != nil {
				t.Error(err)
				return
			}
			if _, err := Rotate(dir, "", name, Identity, Add); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	wantNoFaults(t, dir)
	r, err := Read(dir)
	if err != nil || len(r.Apps) != len(names) {
		t.Errorf("%+v, %v", r.Apps, err)
	}
	for _, name := range names {
		trust := loadKit(t, dir, "middleware", relay.RoleService).Trust
		if kids := trust.Kids(relay.RoleApp, name); len(kids) != 2 {
			t.Errorf("%s: %d keys are trusted, want that in use and the next", name, len(kids))
		}
	}
}

// Whose a key is does not depend on the kit, which may have been taken away when it was delivered.
func TestAServiceDoesNotTakeAnAppsKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	app := mustInit(t, Config{Dir: dir, Apps: []App{{Name: "both"}}, Services: []string{"billing"}}).Side(relay.RoleApp, "both").Kid
	if err := os.Remove(filepath.Join(dir, "both", "kit.json")); err != nil {
		t.Fatal(err)
	}
	r := mustInit(t, Config{Dir: dir, Apps: []App{{Name: "ui"}}, Services: []string{"both"}})
	if got := r.Side(relay.RoleApp, "both").Kid; got != app {
		t.Errorf("the app's key was replaced by %s", got)
	}
	if got := r.Side(relay.RoleService, "both").Kid; got == app {
		t.Error("the service has the app's key")
	}
}

// Nor does it where the run that added the service broke off, at whichever file.
func TestAServiceDoesNotTakeAnAppsKeyAfterABreak(t *testing.T) {
	t.Parallel()
	more := func(dir string) Config {
		return Config{Dir: dir, Apps: []App{{Name: "ui"}}, Services: []string{"both"}}
	}
	for n, broke := 1, true; broke; n++ {
		dir := t.TempDir()
		app := mustInit(t, Config{Dir: dir, Apps: []App{{Name: "both"}}, Services: []string{"billing"}}).Side(relay.RoleApp, "both").Kid
		if err := os.Remove(filepath.Join(dir, "both", "kit.json")); err != nil {
			t.Fatal(err)
		}
		written := 0
		_, err := initialize(more(dir), files{fill: func(f *os.File, data []byte) (int, error) {
			if written++; written == n {
				return 0, syscall.ENOSPC
			}
			return f.Write(data)
		}})
		broke = err != nil
		r := mustInit(t, more(dir))
		if got := r.Side(relay.RoleApp, "both").Kid; got != app || r.Side(relay.RoleService, "both").Kid == app {
			t.Errorf("file %d: the app's key was replaced by %s, the service has %s", n, got, r.Side(relay.RoleService, "both").Kid)
		}
		if !broke && n < 10 {
			t.Errorf("only %d files", n-1)
		}
	}
}
