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
	// askTime is for an answer: the Databricks CLI may be called twice.
	askTime = 2*cliTimeout + 10*time.Second
)

// Kept hands out one token until it nears its end or is forgotten. A page's many requests ask once, and nobody waits for the
// answer while there is a token that counts.
type Kept struct {
	ask func(ctx context.Context, again bool) (relay.Token, error) // again: the one before is about to expire, or is not accepted
	now func() time.Time

	mu    sync.Mutex
	token relay.Token
	got   time.Time // when
	asked time.Time // last, also in vain
	bad   bool      // it is not accepted where it was shown
	asks  *asking   // nil while nobody does
}

// asking is a question that is under way, and then its answer.
type asking struct {
	done  chan struct{}
	token relay.Token
	err   error
}

// KeepTokens asks for a token when there is none, or when the one there is has under 5 minutes left. A failure counts only
// when there is no token left that does.
func KeepTokens(ask func(ctx context.Context, again bool) (relay.Token, error)) *Kept {
	return &Kept{ask: ask, now: time.Now}
}

// Token is the one that is kept, or another.
func (k *Kept) Token(ctx context.Context) (relay.Token, error) {
	k.mu.Lock()
	now, token := k.now(), k.token
	counts, due := k.counts(now), k.due(now) || k.bad
	if counts && (!due || now.Sub(k.asked) < askPause) {
		k.mu.Unlock()
		return token, nil
	}
	a := k.asks
	if a == nil {
		a = &asking{done: make(chan struct{})}
		k.asks = a
		go k.replace(context.WithoutCancel(ctx), a, !token.IsZero()) // others need the answer too
	}
	wait := !counts || k.bad
	k.mu.Unlock()
	if !wait {
		return token, nil
	}
	select {
	case <-a.done:
		return a.token, a.err
	case <-ctx.Done():
		return relay.Token{}, fmt.Errorf("no token came in time: %w", ctx.Err())
	}
}

// replace asks for a token, and keeps it. Without one, that there is will do while it counts.
func (k *Kept) replace(ctx context.Context, a *asking, again bool) {
	defer close(a.done)
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	token, err := k.ask(ctx, again)
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now() // asking may have taken a minute
	k.asked, k.asks = now, nil
	if err == nil && token.ExpiredAt(now) {
		err = fmt.Errorf("the token that was handed out expired at %s: sign in again", token.Expiry().Format(time.TimeOnly))
	}
	switch {
	case err == nil:
		k.token, k.got, k.bad = token, now, false
		a.token = token
	case k.counts(now):
		a.token = k.token
	default:
		a.err = err
	}
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
