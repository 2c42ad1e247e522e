package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// FrontConfig describes a [Front].
type FrontConfig struct {
	// Workspace whose people and tokens count. Required.
	Workspace *Workspace

	// App is the name of the workspace's app behind the proxy. Required.
	App string

	// Upstream is the app's own address, such as "http://127.0.0.1:8000".
	// Required.
	Upstream string

	// CarryUser plays the unverified case in which the platform carries a
	// person's token to the app for a bearer call to a path under /api/.
	// Defaults to false: it is lost.
	CarryUser bool

	// CutAfter is the time after which a plain HTTP exchange is cut, however
	// far it has come; WebSockets live on. Defaults to 120 seconds.
	CutAfter time.Duration

	// CutWebSocketsAfter is the time after which a WebSocket is cut too.
	// Defaults to never.
	CutWebSocketsAfter time.Duration

	// BearerOnlyAPI lets a bearer token in to paths under /api/ only, which is
	// what the platform's documentation promises, and sends others to sign in.
	// Defaults to false: to every path.
	BearerOnlyAPI bool

	// TokenLifetime of the person's token. Defaults to the workspace's.
	TokenLifetime time.Duration

	// RefreshBefore is the remaining life at which a session's token is
	// replaced, at the next request. Defaults to 5 minutes, and counts as half
	// the TokenLifetime when that is shorter than twice as long.
	RefreshBefore time.Duration

	// SessionLifetime is how long a browser stays signed in. Defaults to 12
	// hours.
	SessionLifetime time.Duration

	// AllowHeaders are request headers to pass beside the standard ones.
	AllowHeaders []string

	// Transport to the app. Defaults to a transport of its own without a proxy.
	Transport http.RoundTripper

	// Log gets one debug line per request, never a token.
	// Defaults to a logger that discards.
	Log *slog.Logger
}

func (c FrontConfig) withDefaults() FrontConfig {
	if c.CutAfter == 0 {
		c.CutAfter = 120 * time.Second
	}
	if c.TokenLifetime == 0 && c.Workspace != nil {
		c.TokenLifetime = c.Workspace.cfg.TokenLifetime
	}
	if c.RefreshBefore == 0 {
		c.RefreshBefore = 5 * time.Minute
	}
	c.RefreshBefore = min(c.RefreshBefore, c.TokenLifetime/2)
	if c.SessionLifetime == 0 {
		c.SessionLifetime = 12 * time.Hour
	}
	if c.Transport == nil {
		c.Transport = &http.Transport{DisableCompression: true, IdleConnTimeout: 10 * time.Second}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate reports all faults at once.
func (c FrontConfig) validate() error {
	var faults []error
	if c.Workspace == nil {
		faults = append(faults, errors.New("no workspace"))
	} else if _, ok := c.Workspace.App(c.App); !ok {
		faults = append(faults, fmt.Errorf("no app %q in the workspace", c.App))
	}
	if err := validBaseURL(c.Upstream); err != nil {
		faults = append(faults, fmt.Errorf("upstream: %w", err))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"CutAfter", c.CutAfter}, {"CutWebSocketsAfter", c.CutWebSocketsAfter}, {"TokenLifetime", c.TokenLifetime},
		{"RefreshBefore", c.RefreshBefore}, {"SessionLifetime", c.SessionLifetime},
	} {
		if d.value < 0 {
			faults = append(faults, fmt.Errorf("%s: %v is negative", d.name, d.value))
		}
	}
	return errors.Join(faults...)
}

func (c FrontConfig) upstream() *url.URL {
	u, _ := url.Parse(c.Upstream) // validated
	return u
}
