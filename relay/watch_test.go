package relay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// locked is a writer with a lock.
type locked struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func trustOf(t *testing.T, apps ...string) string {
	t.Helper()
	f := TrustFile{Type: TrustTypeName, Apps: map[string]JWKS{}}
	for _, name := range apps {
		f.Apps[name] = JWKS{[]JWK{NewIdentity().Public()}}
	}
	return prettyText(t, f)
}

func prettyText(t *testing.T, v any) string {
	t.Helper()
	text, err := PrettyJSON(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// watching is a side whose files are watched, in a bubble of synctest's.
type watching struct {
	t       *testing.T
	mu      sync.Mutex // the race detector does not know that the bubble's time orders its goroutines
	applied []string
	log     bytes.Buffer
	stop    func()
}

func startWatching(t *testing.T, side *Side) *watching {
	w := &watching{t: t}
	note := func(format string, args ...any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.applied = append(w.applied, fmt.Sprintf(format, args...))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		side.Watch(ctx, time.Second, slog.New(slog.NewTextHandler(locked{&w.mu, &w.log}, nil)), Changes{
			Trust:    func(trust *Trust) { note("%v", trust.Names(RoleApp)) },
			Identity: func(id Identity) { note("%s", id.Kid()) },
		})
	})
	w.stop = func() { cancel(); running.Wait() }
	synctest.Wait()
	return w
}

func (w *watching) step(what string, wantApplied []string, wantLog string) {
	w.t.Helper()
	time.Sleep(time.Second) // of the bubble's clock
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.applied, wantApplied) {
		w.t.Errorf("%s: applied %v, want %v", what, w.applied, wantApplied)
	}
	if got := w.log.String(); wantLog == "" && got != "" || !strings.Contains(got, wantLog) {
		w.t.Errorf("%s: logged %q, want %q", what, got, wantLog)
	}
	w.applied = nil
	w.log.Reset()
}

// put writes a file as an editor does that others may see half done.
func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWatchTrustFile(t *testing.T) {
	t.Parallel()
	f := newSideFiles(t, RoleService)
	one, two := trustOf(t, "ui"), trustOf(t, "ui", "batch")
	put(t, f.trustFile, one)
	s := f.settings()
	s.KeyFile, s.Key = "", f.key
	side, err := s.Load(RoleService)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := startWatching(t, side)
		w.step("at first", []string{"[ui]"}, "")
		w.step("unchanged", nil, "")
		put(t, f.trustFile, two)
		w.step("changed", []string{"[batch ui]"}, "trust file read again")
		put(t, f.trustFile, "{")
		w.step("broken", nil, "level=ERROR msg=\"the trust file is faulty, what is in force stays\"")
		w.step("still broken", nil, "")
		put(t, f.trustFile, f.servicesOnly)
		w.step("the other side's", nil, "the trust names no app")
		put(t, f.trustFile, two)
		w.step("mended", []string{"[batch ui]"}, "read again")
		if err := os.Remove(f.trustFile); err != nil {
			t.Fatal(err)
		}
		w.step("gone", nil, "cannot be read, what is in force stays")
		w.step("still gone", nil, "")
		put(t, f.trustFile, two)
		w.step("back", nil, "")
		put(t, f.trustFile, one)
		w.step("changed again", []string{"[ui]"}, "read again")
		w.stop()
	})
}

func TestWatchKeyFile(t *testing.T) {
	t.Parallel()
	f := newSideFiles(t, RoleService)
	next := NewIdentity()
	s := f.settings()
	s.TrustFile, s.Trust = "", f.trust
	side, err := s.Load(RoleService)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := startWatching(t, side)
		w.step("at first", nil, "")
		put(t, f.keyFile, prettyText(t, next.Private()))
		w.step("replaced", []string{next.Kid()}, "identity key replaced")
		put(t, f.keyFile, prettyText(t, next.Public()))
		w.step("no private key", nil, "the key file is faulty")
		put(t, f.keyFile, f.key)
		if err := os.Chmod(f.keyFile, 0o644); err != nil {
			t.Fatal(err)
		}
		w.step("open to others", nil, "chmod 600")
		if err := os.Chmod(f.keyFile, 0o600); err != nil {
			t.Fatal(err)
		}
		w.step("and back", []string{side.Identity.Kid()}, "identity key replaced")
		w.stop()
		if text := w.log.String(); strings.Contains(text, next.Private().D) {
			t.Error("a key is in the log")
		}
	})
}

// A kit brings trust and key at once; another NATS user takes a restart, and the log says so.
func TestWatchKit(t *testing.T) {
	t.Parallel()
	f, other := newSideFiles(t, RoleService), newSideFiles(t, RoleService)
	side, err := (&Settings{KitFile: f.kitFile, Hints: HintsFull}).Load(RoleService)
	if err != nil {
		t.Fatal(err)
	}
	kit, err := ParseKit([]byte(f.kit), RoleService)
	if err != nil {
		t.Fatal(err)
	}
	next := NewIdentity()
	synctest.Test(t, func(t *testing.T) {
		w := startWatching(t, side)
		w.step("at first", []string{"[ui]"}, "")
		kit.Key = next.Private()
		kit.Trust.Apps["batch"] = kit.Trust.Apps["ui"]
		put(t, f.kitFile, prettyText(t, kit))
		w.step("trust and key", []string{"[batch ui]", next.Kid()}, "identity key replaced")
		kit.NKey = other.nkey
		put(t, f.kitFile, prettyText(t, kit))
		w.step("the NATS user", []string{"[batch ui]"}, "the key of the NATS user has changed, restart to use it")
		kit.Name, kit.Key = "another", NewIdentity().Private()
		put(t, f.kitFile, prettyText(t, kit))
		w.step("another service's", nil, "the kit is faulty, what is in force stays")
		kit.Name, kit.Trust.Apps, kit.Trust.Services = "mine", nil, kit.Trust.Apps
		put(t, f.kitFile, prettyText(t, kit))
		w.step("with the other side's trust", nil, "the trust names no app")
		w.stop()
	})
}

// A side watches the files that it took something from, and none where it came from the environment.
func TestWhichFilesAreWatched(t *testing.T) {
	t.Parallel()
	f := newSideFiles(t, RoleService)
	for name, c := range map[string]struct {
		settings Settings
		want     []string
	}{
		"kit file":                  {Settings{KitFile: f.kitFile}, []string{f.kitFile}},
		"files":                     {f.settings(), []string{f.trustFile, f.keyFile}},
		"environment":               {Settings{Kit: f.kit}, nil},
		"kit file beaten by both":   {Settings{KitFile: f.kitFile, KeyFile: f.keyFile, Trust: f.trust}, []string{f.keyFile}},
		"kit file beaten for trust": {Settings{KitFile: f.kitFile, Trust: f.trust}, []string{f.kitFile}},
	} {
		c.settings.Hints = HintsFull
		side, err := c.settings.Load(RoleService)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range side.watched {
			got = append(got, w.path)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// What was given on its own is not replaced by what a kit says later.
func TestWatchedKitIsBeaten(t *testing.T) {
	t.Parallel()
	f, other := newSideFiles(t, RoleService), newSideFiles(t, RoleService)
	side, err := (&Settings{KitFile: f.kitFile, Trust: f.trust, Hints: HintsFull}).Load(RoleService)
	if err != nil {
		t.Fatal(err)
	}
	kit, err := ParseKit([]byte(other.kit), RoleService)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := startWatching(t, side)
		w.step("at first", nil, "")
		put(t, f.kitFile, other.kit)
		w.step("another kit", []string{kit.Key.Thumbprint()}, "identity key replaced")
		w.stop()
	})
}

func TestOldKeyIsNamed(t *testing.T) {
	t.Parallel()
	f := newSideFiles(t, RoleService)
	side, err := (&Settings{KitFile: f.kitFile, Hints: HintsFull}).Load(RoleService)
	if err != nil {
		t.Fatal(err)
	}
	for days, want := range map[int]bool{364: false, 366: true} {
		changed := time.Now().AddDate(0, 0, -days)
		if err := os.Chtimes(f.kitFile, changed, changed); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		side.Watch(ctx, time.Hour, slog.New(slog.NewTextHandler(&log, nil)), Changes{Trust: func(*Trust) {}, Identity: func(Identity) {}})
		if text := log.String(); strings.Contains(text, "not been replaced for more than a year") != want || want && !strings.Contains(text, filepath.Base(f.kitFile)) {
			t.Errorf("%d days: %s", days, text)
		}
	}
}
