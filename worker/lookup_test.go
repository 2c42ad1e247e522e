package worker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// asker stands for the workspace: it answers after a while, and counts.
type asker struct {
	calls atomic.Int32
	takes time.Duration
	fault error
}

func (a *asker) ask(ctx context.Context, token relay.Token) (*User, error) {
	n := a.calls.Add(1)
	if a.takes > 0 && !pause(ctx, a.takes) {
		return nil, ctx.Err()
	}
	if a.fault != nil {
		return nil, a.fault
	}
	return &User{ID: fmt.Sprint(n), UserName: fmt.Sprint(token.Expiry().Unix())}, nil
}

func newTestLookup(t *testing.T, cfg LookupConfig) *CachedLookup {
	t.Helper()
	l, err := NewCachedLookup(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// expectUser looks a token up and checks in which call to the workspace the answer was given.
func expectUser(t *testing.T, l *CachedLookup, token relay.Token, call string) {
	t.Helper()
	u, err := l.User(t.Context(), token)
	if err != nil || u.ID != call {
		t.Errorf("got %+v, %v, want the answer of call %s", u, err, call)
	}
}

func TestLookupKeepsAnAnswerForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{takes: time.Second}
		l := newTestLookup(t, LookupConfig{Ask: a.ask})
		token := testToken(t, testJWT("alice", time.Now().Add(time.Hour)))
		expectUser(t, l, token, "1")
		time.Sleep(59*time.Second - time.Millisecond) // the minute counts from the question
		expectUser(t, l, token, "1")
		time.Sleep(time.Millisecond)
		expectUser(t, l, token, "2")
	})
}

func TestLookupNeverOutlivesTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{}
		l := newTestLookup(t, LookupConfig{Ask: a.ask})
		token := testToken(t, testJWT("alice", time.Now().Add(10*time.Second)))
		expectUser(t, l, token, "1")
		time.Sleep(10*time.Second - time.Millisecond)
		expectUser(t, l, token, "1")
		time.Sleep(time.Millisecond)
		expectUser(t, l, token, "2") // within the leeway the workspace decides, each time anew
		expectUser(t, l, token, "3")
		time.Sleep(relay.Leeway)
		expectUser(t, l, token, "4")
		time.Sleep(time.Millisecond)
		if u, err := l.User(t.Context(), token); !errors.Is(err, relay.CodeTokenExpired) {
			t.Errorf("got %+v, %v", u, err)
		}
		if n := a.calls.Load(); n != 4 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestLookupRefusesWithoutAsking(t *testing.T) {
	a := &asker{}
	l := newTestLookup(t, LookupConfig{Ask: a.ask})
	if u, err := l.User(t.Context(), relay.Token{}); !errors.Is(err, relay.CodeTokenMissing) {
		t.Errorf("no token gives %+v, %v", u, err)
	}
	if u, err := l.User(t.Context(), testToken(t, testJWT("alice", time.Now().Add(-time.Hour)))); !errors.Is(err, relay.CodeTokenExpired) {
		t.Errorf("an expired token gives %+v, %v", u, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if u, err := l.User(gone, aliceToken(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has left gets %+v, %v", u, err)
	}
	if n := a.calls.Load(); n != 0 {
		t.Errorf("%d calls", n)
	}
}

func TestLookupKeepsRefusalsOnly(t *testing.T) {
	tests := map[relay.Code]bool{
		relay.CodeTokenRejected: true, relay.CodeScopeMissing: true, relay.CodeForbidden: true,
		relay.CodeWorkspaceDown: false, relay.CodeInternal: false, relay.CodeTokenExpired: false, relay.CodeCanceled: false,
	}
	for code, kept := range tests {
		t.Run(string(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &asker{fault: relay.NewError(code, "no")}
				l := newTestLookup(t, LookupConfig{Ask: a.ask})
				token := testToken(t, testJWT("alice", time.Now().Add(time.Hour)))
				expect := func(calls int32) {
					t.Helper()
					u, err := l.User(t.Context(), token)
					if u != nil || !errors.Is(err, code) {
						t.Errorf("got %+v, %v", u, err)
					}
					if n := a.calls.Load(); n != calls {
						t.Errorf("%d calls, want %d", n, calls)
					}
				}
				expect(1)
				if !kept {
					expect(2)
					return
				}
				time.Sleep(10*time.Second - time.Millisecond)
				expect(1)
				time.Sleep(time.Millisecond)
				expect(2)
			})
		})
	}
}

func TestLookupHandsOutItsOwnErrors(t *testing.T) {
	a := &asker{fault: relay.NewError(relay.CodeForbidden, "no")}
	l := newTestLookup(t, LookupConfig{Ask: a.ask})
	token := aliceToken(t)
	for range 2 {
		_, err := l.User(t.Context(), token)
		e := relay.AsError(err)
		if e.RequestID != "" {
			t.Errorf("got an error that belongs to %s", e.RequestID)
		}
		e.RequestID = "mine"
	}
}

func TestLookupAsksOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{takes: 5 * time.Second}
		l := newTestLookup(t, LookupConfig{Ask: a.ask})
		token := testToken(t, testJWT("alice", time.Now().Add(time.Hour)))
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() { expectUser(t, l, token, "1") })
		}
		group.Wait()
		if n := a.calls.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestLookupGoesOnWhenTheFirstCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{takes: 5 * time.Second}
		l := newTestLookup(t, LookupConfig{Ask: a.ask})
		token := testToken(t, testJWT("alice", time.Now().Add(time.Hour)))
		began := time.Now()
		var group sync.WaitGroup
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if u, err := l.User(ctx, token); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, relay.CodeWorkspaceDown) {
				t.Errorf("got %+v, %v", u, err)
			}
			if took := time.Since(began); took != time.Second {
				t.Errorf("left after %v", took)
			}
		})
		synctest.Wait()
		group.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(2*time.Second, cancel)
			if u, err := l.User(ctx, token); !errors.Is(err, context.Canceled) || !errors.Is(err, relay.CodeCanceled) {
				t.Errorf("got %+v, %v", u, err)
			}
		})
		group.Go(func() { expectUser(t, l, token, "1") })
		group.Wait()
		expectUser(t, l, token, "1")
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestLookupIsBoundedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{takes: time.Hour}
		l := newTestLookup(t, LookupConfig{Ask: a.ask})
		token := testToken(t, testJWT("alice", time.Now().Add(time.Hour)))
		began := time.Now()
		u, err := l.User(t.Context(), token)
		if !errors.Is(err, relay.CodeWorkspaceDown) || !strings.Contains(err.Error(), "within 10s") {
			t.Errorf("got %+v, %v", u, err)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestLookupClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{}
		l := newTestLookup(t, LookupConfig{Ask: a.ask})
		known := testToken(t, testJWT("alice", time.Now().Add(time.Hour)))
		expectUser(t, l, known, "1")
		a.takes = 5 * time.Second
		began := time.Now()
		var group sync.WaitGroup
		for i := range 3 {
			token := testToken(t, testJWT(fmt.Sprint(i), time.Now().Add(time.Hour)))
			group.Go(func() {
				if u, err := l.User(t.Context(), token); !errors.Is(err, relay.CodeWorkerDraining) {
					t.Errorf("got %+v, %v", u, err)
				}
			})
		}
		synctest.Wait()
		l.Close()
		l.Close()
		group.Wait()
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
		expectUser(t, l, known, "1")
		if u, err := l.User(t.Context(), testToken(t, testJWT("late", time.Now().Add(time.Hour)))); !errors.Is(err, relay.CodeWorkerDraining) {
			t.Errorf("got %+v, %v", u, err)
		}
	})
}

func TestLookupPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{takes: time.Second}
		l := newTestLookup(t, LookupConfig{Ask: a.ask})
		token := testToken(t, testJWT("alice", time.Now().Add(time.Hour)))
		expectUser(t, l, token, "1")
		l.Purge()
		go func() {
			time.Sleep(time.Second / 2)
			l.Purge() // while the second call is under way: its answer may be from before
		}()
		expectUser(t, l, token, "2")
		expectUser(t, l, token, "3")
		expectUser(t, l, token, "3")
	})
}

func TestLookupDistrustsAClockThatJumps(t *testing.T) {
	for _, jump := range []time.Duration{-time.Hour, -time.Second, time.Hour} {
		a := &asker{}
		now := time.Now()
		l := newTestLookup(t, LookupConfig{Ask: a.ask, Clock: func() time.Time { return now }})
		token := testToken(t, testJWT("alice", now.Add(24*time.Hour)))
		expectUser(t, l, token, "1")
		expectUser(t, l, token, "1")
		now = now.Round(0).Add(jump) // the wall clock alone
		expectUser(t, l, token, "2")
	}
}

func TestLookupIsBoundedInSize(t *testing.T) {
	a := &asker{}
	l := newTestLookup(t, LookupConfig{Ask: a.ask, Size: 2})
	var tokens []relay.Token
	for i := range 3 {
		tokens = append(tokens, testToken(t, testJWT(fmt.Sprint(i), time.Now().Add(time.Hour))))
		expectUser(t, l, tokens[i], fmt.Sprint(i+1))
	}
	if n := l.answers.Len(); n != 2 {
		t.Errorf("%d answers are kept", n)
	}
	expectUser(t, l, tokens[2], "3")
	expectUser(t, l, tokens[0], "4")
}

func TestLookupSurvivesWhatItAsks(t *testing.T) {
	tests := map[string]struct {
		ask  func(context.Context, relay.Token) (*User, error)
		code relay.Code
	}{
		"panic":       {func(_ context.Context, token relay.Token) (*User, error) { panic(token.Reveal()) }, relay.CodeInternal},
		"nobody":      {func(context.Context, relay.Token) (*User, error) { return nil, nil }, relay.CodeInternal},
		"plain error": {func(context.Context, relay.Token) (*User, error) { return nil, errors.New("x") }, relay.CodeInternal},
		"user + error": {func(context.Context, relay.Token) (*User, error) {
			return alice(), relay.NewError(relay.CodeForbidden, "no")
		}, relay.CodeForbidden},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			token := aliceToken(t)
			u, err := newTestLookup(t, LookupConfig{Ask: test.ask}).User(t.Context(), token)
			if u != nil || !errors.Is(err, test.code) || strings.Contains(fmt.Sprintf("%v %+v", err, err), token.Reveal()) {
				t.Errorf("got %+v, %v", u, err)
			}
		})
	}
}

func TestLookupKeepsNoToken(t *testing.T) {
	l := newTestLookup(t, LookupConfig{Ask: (&asker{}).ask})
	token := aliceToken(t)
	expectUser(t, l, token, "1")
	if text := fmt.Sprintf("%+v %+v", l.answers.Keys(), l.answers.Values()); strings.Contains(text, token.Reveal()) {
		t.Error("the cache holds the token")
	}
	other := newTestLookup(t, LookupConfig{Ask: (&asker{}).ask})
	if l.hash(token) == other.hash(token) {
		t.Error("two caches hash alike, so the hash needs no key to guess")
	}
}

func TestLookupConfigFaults(t *testing.T) {
	_, err := NewCachedLookup(LookupConfig{TTL: 2 * time.Minute, RefusalTTL: -1, Timeout: -1, Size: -1})
	for _, want := range []string{"Ask", "TTL is 2m0s", "RefusalTTL", "Timeout", "Size"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not among the faults: %v", want, err)
		}
	}
	got := LookupConfig{}.withDefaults()
	got.Clock = nil
	if want := (LookupConfig{TTL: time.Minute, RefusalTTL: 10 * time.Second, Timeout: 10 * time.Second, Size: 10_000}); !reflect.DeepEqual(got, want) {
		t.Errorf("defaults are %+v", got)
	}
}

// Many people, tokens that come and go, callers that leave: nobody gets another's answer.
func TestLookupKeepsPeopleApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asker{takes: 100 * time.Millisecond}
		l := newTestLookup(t, LookupConfig{Ask: a.ask, Size: 16})
		var group sync.WaitGroup
		for i := range 200 {
			expiry := time.Now().Add(time.Hour + time.Duration(i%25)*time.Second)
			token := testToken(t, testJWT("x", expiry))
			group.Go(func() {
				for j := range 5 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(50+i+j)*time.Millisecond)
					u, err := l.User(ctx, token)
					cancel()
					if err == nil && u.UserName != fmt.Sprint(expiry.Unix()) {
						t.Errorf("got %+v for %d", u, expiry.Unix())
					}
				}
			})
		}
		group.Wait()
	})
}

// The whole way: a workspace, the cache before it, and one person asked for by many.
func TestLookupWithWorkspace(t *testing.T) {
	s := newStandIn(t, answerJSON(200, aliceJSON))
	w := newTestWorkspace(t, WorkspaceConfig{Host: s.URL})
	l := newTestLookup(t, LookupConfig{Ask: w.Me})
	token := aliceToken(t)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() { expectUser(t, l, token, "7") })
	}
	group.Wait()
	if n := len(s.seen()); n != 1 {
		t.Errorf("%d calls", n)
	}
}

func BenchmarkLookupHit(b *testing.B) {
	l, err := NewCachedLookup(LookupConfig{Ask: (&asker{}).ask})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	token, err := relay.NewToken(testJWT("alice", time.Now().Add(time.Hour)))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.User(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
