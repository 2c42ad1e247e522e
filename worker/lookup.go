package worker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/obo-relay/obo-relay/relay"
)

// Lookup says whose token it is. The User it returns is read only.
type Lookup interface {
	User(ctx context.Context, token relay.Token) (*User, error)
}

var _ Lookup = (*CachedLookup)(nil)

// LookupConfig configures a CachedLookup.
type LookupConfig struct {
	// Ask asks the workspace, e.g. Workspace.Me. Required.
	Ask func(ctx context.Context, token relay.Token) (*User, error)
	// TTL is how long an answer is used, and so how long a changed group or a removed user may go unnoticed. An answer
	// is never used past the token's own expiry. At most 60 s. Defaults to 60 s.
	TTL time.Duration
	// RefusalTTL is how long a refusal (token_rejected, scope_missing, forbidden) is used. Other failures are never
	// kept. At most 60 s. Defaults to 10 s.
	RefusalTTL time.Duration
	// Timeout of one call to Ask. Defaults to 10 s.
	Timeout time.Duration
	// Size is the number of answers kept; the least recently used goes first. Defaults to 10,000.
	Size int
	// Clock defaults to time.Now.
	Clock func() time.Time
}

const maxLookupTTL = 60 * time.Second

func (c LookupConfig) withDefaults() LookupConfig {
	if c.TTL == 0 {
		c.TTL = maxLookupTTL
	}
	if c.RefusalTTL == 0 {
		c.RefusalTTL = 10 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Size == 0 {
		c.Size = 10_000
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

func (c LookupConfig) validate() error {
	var faults []error
	if c.Ask == nil {
		faults = append(faults, errors.New("lookup: Ask is missing"))
	}
	if c.TTL < 0 || c.TTL > maxLookupTTL {
		faults = append(faults, fmt.Errorf("lookup: TTL is %v, it must be positive and at most %v", c.TTL, maxLookupTTL))
	}
	if c.RefusalTTL < 0 || c.RefusalTTL > maxLookupTTL {
		faults = append(faults, fmt.Errorf("lookup: RefusalTTL is %v, it must be positive and at most %v", c.RefusalTTL, maxLookupTTL))
	}
	if c.Timeout < 0 {
		faults = append(faults, fmt.Errorf("lookup: Timeout is %v, it must be positive", c.Timeout))
	}
	if c.Size < 0 {
		faults = append(faults, fmt.Errorf("lookup: Size is %d, it must be positive", c.Size))
	}
	return errors.Join(faults...)
}

// CachedLookup asks once for each token and keeps the answer for a short time. Tokens are not kept: answers are found by
// the token's hash under a key that lives and dies with the CachedLookup.
type CachedLookup struct {
	cfg     LookupConfig
	key     [sha256.Size]byte
	answers *lru.Cache[tokenHash, answer]
	calls   singleflight.Group
	purges  atomic.Uint64 // an answer asked for before a purge is not kept after it

	stop    context.CancelFunc
	stopped context.Context // what a running call ends with
	mu      sync.Mutex      // guards the Add of running against Close
	running sync.WaitGroup
}

type tokenHash [sha256.Size]byte

// answer is what the workspace said: a user or a refusal.
type answer struct {
	user    *User
	refusal *relay.Error
	asked   time.Time
	expiry  time.Time // the token's; zero = none
}

// NewCachedLookup returns an empty cache. Close it to end the calls under way.
func NewCachedLookup(cfg LookupConfig) (*CachedLookup, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	answers, err := lru.New[tokenHash, answer](cfg.Size)
	if err != nil {
		return nil, fmt.Errorf("lookup: %w", err)
	}
	l := &CachedLookup{cfg: cfg, answers: answers}
	_, _ = rand.Read(l.key[:]) // never fails (crypto/rand)
	l.stopped, l.stop = context.WithCancel(context.Background())
	return l, nil
}

// User returns the person whose token it is. Concurrent callers with one token share one call; a caller whose context
// ends leaves at once, and the call goes on for the others.
func (l *CachedLookup) User(ctx context.Context, token relay.Token) (*User, error) {
	if err := checkToken(token, l.cfg.Clock()); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, callerLeft(err)
	}
	hash := l.hash(token)
	if a, ok := l.kept(hash); ok {
		return a.result()
	}
	done := l.calls.DoChan(string(hash[:]), func() (any, error) {
		return l.ask(context.WithoutCancel(ctx), hash, token), nil
	})
	select {
	case r := <-done:
		return r.Val.(answer).result()
	case <-ctx.Done():
		return nil, callerLeft(ctx.Err())
	}
}

// Purge forgets every answer, also those under way. A clock that jumps needs none: see kept.
func (l *CachedLookup) Purge() {
	l.purges.Add(1)
	l.answers.Purge()
}

// Close ends the calls under way and waits for them. From then on only answers that are kept are given.
func (l *CachedLookup) Close() {
	l.mu.Lock()
	l.stop()
	l.mu.Unlock()
	l.running.Wait()
}

func (l *CachedLookup) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped.Err() != nil {
		return false
	}
	l.running.Add(1)
	return true
}

// ask makes the one call that all who wait for this token share.
func (l *CachedLookup) ask(ctx context.Context, hash tokenHash, token relay.Token) answer {
	if !l.begin() {
		return answer{refusal: relay.NewError(relay.CodeWorkerDraining, "the worker has stopped looking users up")}
	}
	defer l.running.Done()
	// Someone may have finished a call after this caller looked and before it came here.
	if a, ok := l.kept(hash); ok {
		return a
	}
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	defer context.AfterFunc(l.stopped, cancel)()
	purges := l.purges.Load()
	a := answer{asked: l.cfg.Clock(), expiry: token.Expiry()}
	a.user, a.refusal = l.safeAsk(ctx, token)
	if l.ttl(a) > 0 && l.purges.Load() == purges {
		l.answers.Add(hash, a)
	}
	return a
}

// safeAsk turns a panic into a failure: on the goroutine of a shared call it would end the process.
func (l *CachedLookup) safeAsk(ctx context.Context, token relay.Token) (user *User, refusal *relay.Error) {
	defer func() {
		if recover() != nil { // the value may hold anything, so it is not shown
			user, refusal = nil, relay.NewError(relay.CodeInternal, "looking the user up panicked")
		}
	}()
	user, err := l.cfg.Ask(ctx, token)
	switch {
	case err == nil && user == nil:
		return nil, relay.NewError(relay.CodeInternal, "looking the user up gave nobody")
	case err == nil:
		return user, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, relay.Wrap(relay.CodeWorkspaceDown, context.DeadlineExceeded, fmt.Sprintf("no answer from the workspace within %v", l.cfg.Timeout))
	case errors.Is(err, context.Canceled):
		return nil, relay.Wrap(relay.CodeWorkerDraining, context.Canceled, "the worker stopped while it looked the user up")
	}
	return nil, relay.AsError(err)
}

// kept returns an answer that may still be used.
func (l *CachedLookup) kept(hash tokenHash) (answer, bool) {
	a, ok := l.answers.Get(hash)
	if !ok {
		return answer{}, false
	}
	now, ttl := l.cfg.Clock(), l.ttl(a)
	// Both clocks must agree: the monotonic one stands still while a machine sleeps, the wall clock can be set back.
	monotonic, wall := now.Sub(a.asked), now.Round(0).Sub(a.asked.Round(0))
	fresh := monotonic >= 0 && monotonic < ttl && wall >= 0 && wall < ttl
	if !fresh || (!a.expiry.IsZero() && !now.Before(a.expiry)) {
		return answer{}, false
	}
	return a, true
}

// ttl is how long an answer may be used; 0 = not at all.
func (l *CachedLookup) ttl(a answer) time.Duration {
	if a.refusal == nil {
		return l.cfg.TTL
	}
	switch a.refusal.Code {
	case relay.CodeTokenRejected, relay.CodeScopeMissing, relay.CodeForbidden:
		return l.cfg.RefusalTTL
	}
	return 0
}

func (l *CachedLookup) hash(token relay.Token) tokenHash {
	keyed := make([]byte, 0, 2<<10) // on the stack for tokens of the usual size
	keyed = append(append(keyed, l.key[:]...), token.Reveal()...)
	return sha256.Sum256(keyed)
}

// result hands out a copy of a refusal, since callers add their request id to it.
func (a answer) result() (*User, error) {
	if a.refusal != nil {
		refusal := *a.refusal
		return nil, &refusal
	}
	return a.user, nil
}

// callerLeft is the error for a caller whose own context ended; nothing was started for it.
func callerLeft(err error) *relay.Error {
	if errors.Is(err, context.DeadlineExceeded) {
		return relay.Wrap(relay.CodeWorkspaceDown, err, "the request's time limit passed before the workspace said who this person is")
	}
	return relay.Wrap(relay.CodeCanceled, err, "the caller left while the workspace was asked who this person is")
}
