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

// Kept hands out one token until it nears its end or is forgotten. Callers wait for one another, so that a page's many
// requests ask once.
type Kept struct {
	ask func(ctx context.Context, again bool) (relay.Token, error) // again: the one before is about to expire, or is not accepted
	now func() time.Time

	mu    sync.Mutex
	token relay.Token
	got   time.Time // when
	asked time.Time // last, also in vain
	bad   bool      // it is not accepted where it was shown
}

// KeepTokens asks for a token when there is none, or when the one there is has under 5 minutes left. A failure counts only
// when there is no token left that does.
func KeepTokens(ask func(ctx context.Context, again bool) (relay.Token, error)) *Kept {
	return &Kept{ask: ask, now: time.Now}
}

// Token is the one that is kept, or another.
func (k *Kept) Token(ctx context.Context) (relay.Token, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	if k.counts(now) && (!k.due(now) && !k.bad || now.Sub(k.asked) < askPause) {
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
	k.token, k.got, k.bad = token, now, false
	return token, nil
}

// Forget has the next one asked for, although the one there is may not have expired: it was not accepted.
func (k *Kept) Forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bad = true
}

// counts reports whether there is a token that has not expired.
func (k *Kept) counts(now time.Time) bool { return !k.token.IsZero() && !k.token.ExpiredAt(now) }

// due reports whether the token is near its end: of one that lives shorter than the margin, in the second half of its life.
func (k *Kept) due(now time.Time) bool {
	left := k.token.Expiry().Sub(now)
	return !k.token.Opaque() && left < refreshBefore && left < now.Sub(k.got)
}
