package worker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// Config configures a Worker.
type Config struct {
	Service  string         // name of the service, as apps address it. Required.
	Identity relay.Identity // the service's signing key. Required.
	Trust    *relay.Trust   // whose apps' grants count. Required.
	NATS     relay.ConnectConfig
	Prefix   string       // subject prefix; Defaults to none
	Handler  http.Handler // what serves the requests. Required.

	// Lookup says who a token's person is. Nil: nobody checks the token, and no identity headers are set.
	Lookup Lookup
	// Workspace gives Go handlers a client that acts as the person, by WorkspaceFrom. Nil: there is none.
	Workspace *Workspace
	// IdentityHeaders maps the person to X-Forwarded-* headers. Defaults to DefaultIdentityHeaders.
	IdentityHeaders IdentityHeaders
	// OpaqueTokens accepts tokens that are not JWTs with an expiry.
	OpaqueTokens bool
	// Policy says who may do what. Nil: every person who is looked up may do everything.
	Policy *Policy
	// Audit keeps one record of each request. Nil: none. A record that cannot be kept is logged, and the request is
	// served all the same, unless AuditRequired: then it is refused before anything is done for it.
	Audit         Auditor
	AuditRequired bool

	// Observer watches the requests: for traces and metrics. Nil: none.
	Observer Observer

	Hints          relay.Hints   // clear headers on replies. Defaults to relay.HintsFull
	MaxInFlight    int           // requests served at once; as many may wait, one person is served half of it at most. Defaults to 256
	MaxBody        int64         // bytes of a request body. 0 = no limit
	ReplayCapacity int           // request ids remembered for 90 s, half of them of one person, two thirds of one app at most. Defaults to 1,000,000 (about 60 MB when full)
	GrantCache     int           // opened grants kept. Defaults to 4,096
	GrantRate      float64       // new grants opened a second for each app, each costs public-key work; five times as many at once. Defaults to 200
	KeyLife        time.Duration // of an instance key. Defaults to one hour
	DrainQuiet     time.Duration // without a new request before a draining worker refuses. Defaults to 2 s
	DrainTimeout   time.Duration // before what is under way is broken off. Defaults to 13 s: a platform kills after 15 s
	InspectorInbox string        // where micro answers may go. Defaults to "_INBOX.inspector"
	Version        string        // for people, at most 64 bytes. Defaults to "dev"
	Log            *slog.Logger  // Defaults to slog.Default()

	// Now is the clock, with a monotonic reading. Defaults to time.Now.
	Now func() time.Time
}

func (c Config) withDefaults() Config {
	c.Hints = cmp.Or(c.Hints, relay.HintsFull)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 256)
	c.ReplayCapacity = cmp.Or(c.ReplayCapacity, 1_000_000)
	c.GrantCache = cmp.Or(c.GrantCache, 4096)
	c.GrantRate = cmp.Or(c.GrantRate, 200)
	c.KeyLife = cmp.Or(c.KeyLife, time.Hour)
	c.DrainQuiet = cmp.Or(c.DrainQuiet, 2*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 13*time.Second)
	c.InspectorInbox = cmp.Or(c.InspectorInbox, "_INBOX.inspector")
	c.Version = cmp.Or(c.Version, "dev")
	c.Log = cmp.Or(c.Log, slog.Default())
	if c.IdentityHeaders == nil {
		c.IdentityHeaders = DefaultIdentityHeaders()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// validate reports all faults at once.
func (c Config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !relay.ValidName(c.Service) {
		fault("service %q: want 1 to 63 characters of a-z, 0-9 and - (set --service or OBO_SERVICE)", c.Service)
	}
	if c.Identity.IsZero() {
		fault("no identity key: set --key-file, or OBO_KEY with its content")
	}
	if c.Trust == nil {
		fault("no trust: set --trust-file, or OBO_TRUST with its content")
	} else if len(c.Trust.Names(relay.RoleApp)) == 0 {
		fault("the trust file names no app, so nobody could call this worker: add the app's public key")
	}
	if c.Handler == nil {
		fault("no handler")
	}
	if c.MaxInFlight < 1 || c.MaxBody < 0 || c.ReplayCapacity < 1 || c.GrantCache < 1 || c.GrantRate < 0 {
		fault("a limit is negative")
	}
	if c.KeyLife < time.Minute {
		fault("the instance key's life %v is under a minute", c.KeyLife)
	}
	if len(c.Version) > relay.MaxVersion {
		fault("the version has %d bytes, no publisher would believe an announcement with more than %d", len(c.Version), relay.MaxVersion)
	}
	if err := checkPolicy(c.Policy, c.Lookup); err != nil {
		faults = append(faults, err)
	}
	if c.AuditRequired && c.Audit == nil {
		fault("audit records are required, but nothing keeps them: set --audit or --audit-stream")
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
	if err := c.IdentityHeaders.validate(); err != nil {
		faults = append(faults, err)
	}
	if err := checkEnvironment(os.Getenv); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}
