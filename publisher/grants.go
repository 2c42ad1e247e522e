package publisher

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/obo-relay/obo-relay/relay"
)

// tag stands for a token where it is compared or kept as a key: a hash under a key of this process, that leaves it nowhere.
type tag [sha256.Size]byte

// grantMargin: a grant this close to its end is replaced, so that it does not run out on the way.
const grantMargin = 5 * time.Second

// grants makes one grant for each token and instance key, and reuses it: public-key work is most of a request's cost.
type grants struct {
	app      string
	identity atomic.Pointer[relay.Identity]
	now      func() time.Time
	tagKey   [32]byte
	purged   time.Time                    // when all tokens were last dropped; forget's own
	tokens   *lru.Cache[tag, relay.Token] // read once: a person's requests come with the same token for an hour
	cache    *lru.Cache[grantKey, *grantEntry]
	sealed   atomic.Uint64 // grants made
}

// grantKey has the service although the instance key is one service's: an announcement proves who signed it, not who holds
// the key that it names. A service that announces another's key must not have that one sent what is made out to itself.
type grantKey struct {
	token        tag
	service, kid string
}

type grantEntry struct {
	mu   sync.Mutex // one caller makes it, the others wait
	made *madeGrant
}

// madeGrant is a grant with what a request carries of it.
type madeGrant struct {
	*relay.Grant
	compact []byte
	hash    relay.GrantHash
	known   atomic.Bool // the worker has answered under it, so it need not be sent again
}

func newGrants(c Config) (*grants, error) {
	tokens, err := lru.New[tag, relay.Token](c.GrantCache)
	if err != nil {
		return nil, err
	}
	cache, err := lru.New[grantKey, *grantEntry](c.GrantCache)
	g := &grants{app: c.App, now: c.Now, tokens: tokens, cache: cache, purged: c.Now()}
	g.identity.Store(&c.Identity)
	_, _ = rand.Read(g.tagKey[:]) // never fails (Go 1.24)
	return g, err
}

// setIdentity signs with another key from now on, and forgets every grant that the old one signed: a worker may not believe
// it for as long as such a grant lives.
func (g *grants) setIdentity(id relay.Identity) {
	g.identity.Store(&id)
	g.cache.Purge()
}

// token checks the form of a token and returns it with its tag.
func (g *grants) token(raw string) (relay.Token, tag, error) {
	t := g.tag(raw)
	if token, ok := g.tokens.Get(t); ok {
		return token, t, nil
	}
	token, err := relay.NewToken(raw)
	if err == nil {
		g.tokens.Add(t, token)
	}
	return token, t, err
}

// forgetEvery is how often grants and tokens are dropped that have run out.
const forgetEvery = 10 * time.Second

// forget drops grants and tokens that have run out, and now and then every token: whose person is still there is read again.
func (g *grants) forget() {
	now := g.now()
	for _, key := range g.cache.Keys() {
		if entry, ok := g.cache.Peek(key); ok && entry.over(now) {
			g.cache.Remove(key)
		}
	}
	if now.Sub(g.purged) > relay.MaxGrantLife {
		g.purged = now
		g.tokens.Purge()
	}
	for _, t := range g.tokens.Keys() {
		if token, ok := g.tokens.Peek(t); ok && token.ExpiredAt(now) {
			g.tokens.Remove(t)
		}
	}
}

// over reports whether there is no grant that could be used again.
func (e *grantEntry) over(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.made != nil && !now.Before(e.made.Expiry)
}

func (g *grants) tag(raw string) tag {
	keyed := make([]byte, 0, 2<<10) // on the stack for tokens of the usual size
	keyed = append(append(keyed, g.tagKey[:]...), raw...)
	return sha256.Sum256(keyed)
}

// get returns a grant of the token for the announced key.
func (g *grants) get(token relay.Token, t tag, a *relay.Announcement) (*madeGrant, error) {
	key := grantKey{t, a.Service, a.Kid}
	entry, ok := g.cache.Get(key)
	if !ok {
		entry = &grantEntry{}
		if previous, found, _ := g.cache.PeekOrAdd(key, entry); found {
			entry = previous
		}
	}
	entry.mu.Lock()
	defer entry.mu.Unlock()
	now := g.now()
	if entry.made != nil && entry.made.Expiry.Sub(now) > min(grantMargin, lifeLeft(token, now)/2) {
		return entry.made, nil
	}
	grant, compact, err := relay.SealGrant(*g.identity.Load(), g.app, a, token, now)
	if err != nil {
		return nil, err
	}
	g.sealed.Add(1)
	entry.made = &madeGrant{Grant: grant, compact: []byte(compact), hash: relay.HashGrant([]byte(compact))}
	return entry.made, nil
}

// lifeLeft keeps a token in its last seconds from making a grant for every request.
func lifeLeft(token relay.Token, now time.Time) time.Duration {
	if token.Opaque() {
		return grantMargin * 2
	}
	return token.Expiry().Sub(now)
}
