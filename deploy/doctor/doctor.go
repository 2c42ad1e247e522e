package doctor

import (
	"cmp"
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// Config says what to look at.
type Config struct {
	Environ []string // NAME=value

	// Side is the configuration of the app or the service, and SettingsFault what is wrong with it. Neither: none was given,
	// and the relay is not looked at.
	Side          *relay.Side
	SettingsFault error
	Role          relay.Role
	Name          string   // of the app or service
	Services      []string // that the app calls. Defaults to those of the trust
	Forward       string   // of a service: where the middleware app is. Defaults to not looking

	Token        string   // the person's access token
	TokenFrom    string   // where it came from, or where it was looked for
	OpaqueTokens bool     // a token need not be a JWT
	Scopes       []string // that the token needs beside iam.current-user:read
	Workspace    string   // host or URL
	Path         string   // that is asked of the service. Defaults to "/"

	Hold   time.Duration // how long to watch an idle connection to NATS. Defaults to not doing it
	Direct string        // URL of the other app's front door, to see whether the person's token reaches it directly

	Timeout time.Duration // of a step. Defaults to 10 s
	Wait    time.Duration // for announcements. Defaults to 2 s
	Now     func() time.Time
}

func (c Config) withDefaults() Config {
	c.Path = cmp.Or(c.Path, "/")
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.Wait = cmp.Or(c.Wait, 2*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if len(c.Services) == 0 && c.Side != nil && c.Side.Trust != nil && c.Role == relay.RoleApp {
		c.Services = c.Side.Trust.Names(relay.RoleService)
	}
	return c
}

// Run looks at everything, one after the other.
func Run(ctx context.Context, cfg Config) *Report {
	cfg = cfg.withDefaults()
	d := &doctor{cfg: cfg, Report: newReport(cfg.Now()), heard: map[string][]heard{}}
	defer d.close()
	d.environment()
	usable := d.settings()
	d.person(ctx)
	if usable {
		d.relay(ctx)
	}
	if cfg.Direct != "" {
		d.direct(ctx)
	}
	return d.Report
}

// doctor is one look.
type doctor struct {
	*Report
	cfg      Config
	subjects relay.Subjects
	token    relay.Token   // zero: none that can be used
	user     *worker.User  // nil: not known
	nc       *nats.Conn    // nil: not connected
	resolve  time.Duration // the NATS server's name
	connect  time.Duration
	heard    map[string][]heard // by service
	denied   []string           // what the NATS server denies, as "publish SUBJECT"
}

func (d *doctor) close() {
	if d.nc != nil {
		d.nc.Close()
	}
}

func (d *doctor) ok(name, detail string) { d.add(Check{Name: name, Verdict: OK, Detail: detail}) }
func (d *doctor) warn(name, detail, remedy string) {
	d.add(Check{Name: name, Verdict: Warning, Detail: detail, Remedy: remedy})
}
func (d *doctor) fail(name, detail, remedy string) {
	d.add(Check{Name: name, Verdict: Failed, Detail: detail, Remedy: remedy})
}
func (d *doctor) skip(name, detail string) {
	d.add(Check{Name: name, Verdict: Skipped, Detail: detail})
}

// failError is fail for a failure of the relay, whose code has a remedy.
func (d *doctor) failError(name string, err error) {
	e := relay.AsError(err)
	d.add(Check{Name: name, Verdict: Failed, Detail: e.Error(), Remedy: e.Code.Info().Remedy, Facts: map[string]string{"code": string(e.Code)}})
}

// relay looks at the way of a request, as far as this side's users may.
func (d *doctor) relay(ctx context.Context) {
	d.subjects, _ = relay.NewSubjects(d.cfg.Side.Prefix) // a fault of the settings
	if !d.egress(ctx) || !d.connectNATS() {
		return
	}
	d.brokers(ctx)
	d.permissions()
	if d.cfg.Hold > 0 {
		d.hold(ctx)
	}
	if d.cfg.Role == relay.RoleService {
		d.app(ctx)
		return
	}
	for _, service := range d.cfg.Services {
		if d.workers(ctx, service) {
			d.roundTrip(ctx, service)
		}
	}
}

func (d *doctor) timeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d.cfg.Timeout)
}
