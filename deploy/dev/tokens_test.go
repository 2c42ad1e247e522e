package dev

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
)

// source makes a token of an hour each time it is asked, or fails.
type source struct {
	asked, again atomic.Int32
	fails        atomic.Bool
}

func (s *source) ask(_ context.Context, again bool) (relay.Token, error) {
	s.asked.Add(1)
	if again {
		s.again.Add(1)
	}
	if s.fails.Load() {
		return relay.Token{}, errors.New("signed out")
	}
	return relay.NewToken(relaytest.Token("alice", time.Now().Add(time.Hour)))
}

func TestTokensAreKeptUntilTheyNearTheirEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		tokens := KeepTokens(s.ask)
		want := func(asked int32) {
			t.Helper()
			token, err := tokens.Token(t.Context())
			synctest.Wait()
			if err != nil || token.ExpiredAt(time.Now()) || s.asked.Load() != asked {
				t.Fatalf("%v, asked %d times, want %d", err, s.asked.Load(), asked)
			}
		}
		want(1)
		time.Sleep(54 * time.Minute)
		want(1)
		time.Sleep(2 * time.Minute)
		want(2)
		if s.again.Load() != 1 {
			t.Errorf("%d of the questions say that there was a token before", s.again.Load())
		}
		// A failure counts only when there is no token left, and is not repeated at each request.
		s.fails.Store(true)
		time.Sleep(56 * time.Minute)
		want(3)
		want(3)
		time.Sleep(askPause)
		want(4)
		time.Sleep(5 * time.Minute)
		if _, err := tokens.Token(t.Context()); err == nil || err.Error() != "signed out" {
			t.Error(err)
		}
		s.fails.Store(false)
		want(6)
	})
}

// One that was not accepted is replaced before it expires, but not at each request.
func TestForgottenTokenIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		tokens := KeepTokens(s.ask)
		for i, want := range []int32{1, 1, 2, 2, 3} {
			if _, err := tokens.Token(t.Context()); err != nil || s.asked.Load() != want || s.again.Load() != want-1 {
				t.Fatalf("%d: %v, asked %d times (%d again), want %d", i, err, s.asked.Load(), s.again.Load(), want)
			}
			tokens.Forget()
			time.Sleep(askPause / 2)
		}
		time.Sleep(askPause)
		s.fails.Store(true)
		if token, err := tokens.Token(t.Context()); err != nil || token.ExpiredAt(time.Now()) {
			t.Error(err)
		}
	})
}

func TestTokenThatHasExpiredIsNotHandedOut(t *testing.T) {
	tokens := KeepTokens(func(context.Context, bool) (relay.Token, error) {
		return relay.NewToken(relaytest.Token("alice", time.Now().Add(-time.Minute)))
	})
	if _, err := tokens.Token(t.Context()); err == nil {
		t.Error("an expired token is handed out")
	}
}

// The CLI may take its minute to fail. Nobody waits for it while there is a token that counts, the pause begins after that,
// and what has expired meanwhile is not handed out.
func TestSlowFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, takes := &source{}, new(atomic.Int64)
		tokens := KeepTokens(func(ctx context.Context, again bool) (relay.Token, error) {
			time.Sleep(time.Duration(takes.Load()))
			return s.ask(ctx, again)
		})
		take := func(asked int32, waits time.Duration) error {
			t.Helper()
			begin := time.Now()
			token, err := tokens.Token(t.Context())
			synctest.Wait()
			if took := time.Since(begin); s.asked.Load() != asked || took != waits {
				t.Fatalf("asked %d times, waited %v, want %d, %v", s.asked.Load(), took, asked, waits)
			}
			if err == nil && token.ExpiredAt(time.Now()) {
				t.Error("an expired token is handed out")
			}
			return err
		}
		if err := take(1, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(56 * time.Minute)
		s.fails.Store(true)
		takes.Store(int64(time.Minute))
		if err := errors.Join(take(1, 0), take(1, 0)); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // 57 minutes
		if err := errors.Join(take(2, 0), take(2, 0)); err != nil {
			t.Error(err)
		}
		time.Sleep(2*time.Minute + 30*time.Second) // 59 and a half
		if err := take(2, 0); err != nil {
			t.Error(err)
		}
		time.Sleep(45 * time.Second) // it has expired, and the answer is still to come
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := tokens.Token(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if err := take(3, 14*time.Second); err == nil || err.Error() != "signed out" {
			t.Error(err)
		}
	})
}
