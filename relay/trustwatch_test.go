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
	text, err := PrettyJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestWatchTrust(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "trust.json")
	put := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	one, two := trustOf(t, "ui"), trustOf(t, "ui", "batch")
	put(one)
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // the race detector does not know that the bubble's time orders its goroutines
		var applied []string
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			WatchTrust(ctx, path, time.Second, slog.New(slog.NewTextHandler(locked{&mu, &log}, nil)), func(trust *Trust) {
				mu.Lock()
				defer mu.Unlock()
				applied = append(applied, fmt.Sprint(trust.Names(RoleApp)))
			})
		})
		step := func(what string, wantApplied []string, wantLog string) {
			t.Helper()
			time.Sleep(time.Second) // of the bubble's clock
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(applied, wantApplied) {
				t.Errorf("%s: applied %v, want %v", what, applied, wantApplied)
			}
			if got := log.String(); wantLog == "" && got != "" || !strings.Contains(got, wantLog) {
				t.Errorf("%s: logged %q, want %q", what, got, wantLog)
			}
			applied = nil
			log.Reset()
		}
		synctest.Wait()
		step("at first", []string{"[ui]"}, "")
		step("unchanged", nil, "")
		put(two)
		step("changed", []string{"[batch ui]"}, "trust file read again")
		put("{")
		step("broken", nil, "level=ERROR msg=\"the trust file is faulty, the trust in force stays\"")
		step("still broken", nil, "")
		put(two)
		step("mended", []string{"[batch ui]"}, "read again")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		step("gone", nil, "cannot be read, the trust in force stays")
		step("still gone", nil, "")
		put(two)
		step("back", nil, "")
		put(one)
		step("changed again", []string{"[ui]"}, "read again")
		cancel()
		running.Wait()
	})
}

// A side watches the file that its trust came from, and none where it came from the environment.
func TestSideWatchesItsTrust(t *testing.T) {
	t.Parallel()
	f := newSideFiles(t, RoleService)
	fromKit := Settings{KitFile: f.kitFile, Hints: HintsFull}
	fromFile := f.settings()
	fromNowhere := Settings{Kit: f.kit, Hints: HintsFull}
	for want, s := range map[int]Settings{1: fromKit, 2: fromFile, 0: fromNowhere} {
		side, err := s.Load(RoleService)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		calls := 0
		side.WatchTrust(ctx, time.Hour, slog.New(slog.DiscardHandler), func(trust *Trust) {
			if calls++; !trust.Knows(RoleApp, "ui") {
				t.Errorf("%v", trust)
			}
		})
		if calls != min(want, 1) {
			t.Errorf("%d calls, want %d", calls, min(want, 1))
		}
	}
}
