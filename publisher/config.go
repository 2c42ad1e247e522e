package publisher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// Config configures a Transport.
type Config struct {
	App      string         // name of the app, as workers know it. Required.
	Identity relay.Identity // the app's signing key. Required.
	Trust    *relay.Trust   // the services whose announcements count. Required.
	NATS     relay.ConnectConfig
	Prefix   string // subject prefix; Defaults to none

	Timeout      time.Duration // to the first byte of a response, from the last part of an upload. Defaults to 60 s
	IdleTimeout  time.Duration // within a response's body; there is no limit on its length. Defaults to 5 min
	ConnectWait  time.Duration // how long a request waits for NATS to come back. Defaults to 2 s
	DiscoverWait time.Duration // how long a request waits for a worker to announce itself. Defaults to 500 ms
	MaxInFlight  int           // requests under way, half of them of one person at most. Defaults to 1,024
	GrantCache   int           // grants kept for reuse. Defaults to 10,000
	OpaqueTokens bool          // accept tokens that are not JWTs with an expiry
	TrustBroker  bool          // believe NATS when it says that nobody received a request
	Hints        relay.Hints   // clear headers on requests. Defaults to relay.HintsFull
	Log          *slog.Logger  // Defaults to slog.Default()

	// OnAttempt is called when a request is about to be sent to an instance, with the request's context: for traces. Nil:
	// nobody is told.
	OnAttempt func(ctx context.Context, a Attempt)

	// Now is the clock, with a monotonic reading. Defaults to time.Now.
	Now func() time.Time
}

// Attempt is a request at one instance.
type Attempt struct {
	ID       relay.ID // of the request there
	Service  string
	Instance string
	Subject  string // NATS's
}

func (c Config) withDefaults() Config {
	c.Timeout = cmp.Or(c.Timeout, time.Minute)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 5*time.Minute)
	c.ConnectWait = cmp.Or(c.ConnectWait, 2*time.Second)
	c.DiscoverWait = cmp.Or(c.DiscoverWait, 500*time.Millisecond)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 1024)
	c.GrantCache = cmp.Or(c.GrantCache, 10_000)
	c.Hints = cmp.Or(c.Hints, relay.HintsFull)
	c.Log = cmp.Or(c.Log, slog.Default())
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// validate reports all faults at once.
func (c Config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !relay.ValidName(c.App) {
		fault("app %q: want 1 to 63 characters of a-z, 0-9 and - (set --app or OBO_APP)", c.App)
	}
	if c.Identity.IsZero() {
		fault("no identity key: set --key-file, or OBO_KEY with its content")
	}
	if c.Trust == nil {
		fault("no trust: set --trust-file, or OBO_TRUST with its content")
	} else if len(c.Trust.Names(relay.RoleService)) == 0 {
		fault("the trust file names no service, so no worker could be believed: add the service's public key")
	}
	if c.Timeout < time.Millisecond || c.Timeout > 24*time.Hour || c.IdleTimeout < time.Millisecond || c.ConnectWait < 0 || c.DiscoverWait < 0 {
		fault("a time is out of range (the timeout may be 1 ms to 24 h)")
	}
	if c.MaxInFlight < 1 || c.GrantCache < 1 {
		fault("a limit is negative")
	}
	if err := c.Hints.Validate(); err != nil {
		faults = append(faults, err)
	}
	if _, err := relay.NewSubjects(c.Prefix); err != nil {
		faults = append(faults, err)
	}
	if err := c.NATS.Validate(); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}
