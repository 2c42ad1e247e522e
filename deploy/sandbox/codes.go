package sandbox

import (
	"crypto/rand"
	"maps"
	"sync"
	"time"
)

const (
	codeLifetime = time.Minute
	maxCodes     = 1000
)

// codes are authorization codes (RFC 6749 section 4.1.2): each is good once, for
// one app, for a minute.
type codes struct {
	now  func() time.Time
	mu   sync.Mutex
	open map[string]code // guarded by mu
}

type code struct {
	app, user string
	expiry    time.Time
}

func newCodes(now func() time.Time) *codes { return &codes{now: now, open: map[string]code{}} }

// issue returns a code, or "" when too many wait to be redeemed.
func (c *codes) issue(app, user string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if len(c.open) >= maxCodes {
		maps.DeleteFunc(c.open, func(_ string, old code) bool { return !now.Before(old.expiry) })
	}
	if len(c.open) >= maxCodes {
		return ""
	}
	value := rand.Text()
	c.open[value] = code{app: app, user: user, expiry: now.Add(codeLifetime)}
	return value
}

// redeem spends the code and returns its user.
func (c *codes) redeem(value, app string) (user string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entry, found := c.open[value]
	delete(c.open, value)
	if !found || entry.app != app || !c.now().Before(entry.expiry) {
		return "", false
	}
	return entry.user, true
}
