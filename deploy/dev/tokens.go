package dev

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

const (
	// refreshBefore is the remaining life at which a token is replaced.
	refreshBefore = 5 * time.Minute
	// askPause is between two attempts to replace it, while the one there is still counts.
	askPause = 10 * time.Second
)

// kept hands out one token until it nears its end. Callers wait for one another, so that a page's many requests ask once.
type kept struct {
	ask func(ctx context.Context, again bool) (relay.Token, error) // again: the one before is about to expire
	now func() time.Time

	mu    sync.Mutex
	token relay.Token
	got   time.Time // when
	asked time.Time // last, also in vain
}

// KeepTokens asks for a token when there is none, or when the one there is has under 5 minutes left. A failure counts only
// when there is no token left that does.
func KeepTokens(ask func(ctx context.Context, again bool) (relay.Token, error)) Tokens {
	return &kept{ask: ask, now: time.Now}
}

func (k *kept) Token(ctx context.Context) (relay.Token, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if k.counts(now) && (!k.due(now) || now.Sub(k.asked) < askPause) {
		return k.token, nil
	}
	token, err := k.ask(ctx, !k.token.IsZero())
	now = k.now() // asking may have taken a minute
	k.asked = now
	switch {
	case err == nil && token.ExpiredAt(now):
		err = fmt.Errorf("the token that was handed out expired at %s: sign in again", token.Expiry().Format(time.TimeOnly))
		fallthrough
	case err != nil:
		if k.counts(now) {
			return k.token, nil
		}
		return relay.Token{}, err
	}
	k.token, k.got = token, now
	return token, nil
}

// counts reports whether there is a token that has not expired.
func (k *kept) counts(now time.Time) bool { return !k.token.IsZero() && !k.token.ExpiredAt(now) }

// due reports whether the token is near its end: of one that lives shorter than the margin, in the second half of its life.
func (k *kept) due(now time.Time) bool {
	left := k.token.Expiry().Sub(now)
	return !k.token.Opaque() && left < refreshBefore && left < now.Sub(k.got)
}
