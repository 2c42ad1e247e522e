package sandbox

import (
	"crypto/rand"
	"errors"
	"maps"
	"sync"
	"time"
)

// maxSessions bounds memory; the sandbox then refuses to sign in.
const maxSessions = 10_000

var errNoSession = errors.New("session is unknown or has ended")

// sessions are the browsers that have signed in to one app. Each holds a token,
// replaced when it nears its end and a request comes: a page that is loaded
// again gets a fresh one, a page left open keeps what it was given.
type sessions struct {
	now                     func() time.Time
	issue                   func(user string) (string, time.Time, error)
	lifetime, refreshBefore time.Duration

	mu   sync.Mutex
	open map[string]*session // by cookie value; guarded by mu
}

type session struct {
	user   string
	ends   time.Time
	token  string
	expiry time.Time
}

func newSessions(cfg FrontConfig) *sessions {
	return &sessions{
		now: cfg.Workspace.cfg.Now, lifetime: cfg.SessionLifetime, refreshBefore: cfg.RefreshBefore,
		issue: func(user string) (string, time.Time, error) {
			return cfg.Workspace.issue(user, TokenOptions{App: cfg.App, Lifetime: cfg.TokenLifetime})
		},
		open: map[string]*session{},
	}
}

// begin opens a session and returns its cookie value.
func (s *sessions) begin(user string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if len(s.open) >= maxSessions {
		maps.DeleteFunc(s.open, func(_ string, old *session) bool { return !now.Before(old.ends) })
	}
	if len(s.open) >= maxSessions {
		return "", errors.New("sandbox: too many sessions")
	}
	id := rand.Text()
	s.open[id] = &session{user: user, ends: now.Add(s.lifetime)}
	return id, nil
}

// enter returns the session's user and a token that is not about to expire.
func (s *sessions) enter(id string) (user, token string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open, ok := s.open[id]
	now := s.now()
	if !ok || !now.Before(open.ends) {
		delete(s.open, id)
		return "", "", errNoSession
	}
	if open.expiry.Sub(now) <= s.refreshBefore {
		if open.token, open.expiry, err = s.issue(open.user); err != nil {
			return "", "", err
		}
	}
	return open.user, open.token, nil
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, id)
}
