package dev

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
)

// source makes a token of an hour each time it is asked, or fails.
type source struct {
	asked, again int
	fails        bool
}

func (s *source) ask(_ context.Context, again bool) (relay.Token, error) {
	s.asked++
	if again {
		s.again++
	}
	if s.fails {
		return relay.Token{}, errors.New("signed out")
	}
	return relay.NewToken(relaytest.Token("alice", time.Now().Add(time.Hour)))
}

func TestTokensAreKeptUntilTheyNearTheirEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		tokens := KeepTokens(s.ask)
		want := func(asked int) {
			t.Helper()
			token, err := tokens.Token(t.Context())
			if err != nil || token.ExpiredAt(time.Now()) || s.asked != asked {
				t.Fatalf("%v, asked %d times, want %d", err, s.asked, asked)
			}
		}
		want(1)
		time.Sleep(54 * time.Minute)
		want(1)
		time.Sleep(2 * time.Minute)
		want(2)
		if s.again != 1 {
			t.Errorf("%d of the questions say that there was a token before", s.again)
		}
		// A failure counts only when there is no token left, and is not repeated at each request.
		s.fails = true
		time.Sleep(56 * time.Minute)
		want(3)
		want(3)
		time.Sleep(askPause)
		want(4)
		time.Sleep(5 * time.Minute)
		if _, err := tokens.Token(t.Context()); err == nil || err.Error() != "signed out" {
			t.Error(err)
		}
		s.fails = false
		want(6)
	})
}

// One that was not accepted is replaced before it expires, but not at each request.
func TestForgottenTokenIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		tokens := KeepTokens(s.ask)
		for i, want := range []int{1, 1, 2, 2, 3} {
			if _, err := tokens.Token(t.Context()); err != nil || s.asked != want || s.again != want-1 {
				t.Fatalf("%d: %v, asked %d times (%d again), want %d", i, err, s.asked, s.again, want)
			}
			tokens.Forget()
			time.Sleep(askPause / 2)
		}
		time.Sleep(askPause)
		s.fails = true
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

// The CLI may take its minute to fail. The pause begins after that, and what has expired meanwhile is not handed out.
func TestSlowFailuresArePausedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, takes := &source{}, time.Duration(0)
		tokens := KeepTokens(func(ctx context.Context, again bool) (relay.Token, error) {
			time.Sleep(takes)
			return s.ask(ctx, again)
		})
		take := func(asked int) error {
			t.Helper()
			token, err := tokens.Token(t.Context())
			if s.asked != asked {
				t.Fatalf("asked %d times, want %d", s.asked, asked)
			}
			if err == nil && token.ExpiredAt(time.Now()) {
				t.Error("an expired token is handed out")
			}
			return err
		}
		if err := take(1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(56 * time.Minute)
		s.fails, takes = true, time.Minute
		if err := errors.Join(take(2), take(2)); err != nil {
			t.Error(err)
		}
		time.Sleep(2*time.Minute + 30*time.Second)
		if err := take(3); err == nil {
			t.Error("the token there was has expired while another was asked for")
		}
	})
}
