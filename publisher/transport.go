package publisher

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"github.com/obo-relay/obo-relay/relay"
)

// Transport is an http.RoundTripper whose hosts are services. Make it with New; it works while Run runs.
type Transport struct {
	cfg       Config
	log       *slog.Logger
	subjects  relay.Subjects
	inbox     relay.ID
	doubts    *rate.Limiter // lines about announcements that are not believed
	grants    *grants
	directory *directory
	budget    *relay.Budget
	buffers   *buffers // of uploads
	slots     *slots
	nc        *relay.Conn                 // set before ready is closed
	ready     chan struct{}               // closed when Run has a connection object
	stopped   chan struct{}               // closed when Run has returned
	slow      atomic.Uint64               // times that NATS dropped messages for us
	deaf      atomic.Pointer[relay.Error] // the server denies the replies; until it allows them, or the next connection

	mu      sync.Mutex
	live    map[relay.ID]*attempt
	closing bool            // no new attempt may begin
	up      chan struct{}   // closed and replaced at each connect
	watched map[string]bool // services whose announcements are subscribed to
}

var _ http.RoundTripper = (*Transport)(nil)

// New checks the configuration and reports all its faults at once. It does not connect; Run does.
func New(cfg Config) (*Transport, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	t := &Transport{
		cfg: cfg, log: cfg.Log, inbox: relay.NewID(), doubts: rate.NewLimiter(20, 20), directory: newDirectory(cfg.Trust, cfg.Now),
		budget: relay.NewBudget(relay.ConnectionBudget), buffers: newBuffers(), slots: newSlots(cfg.MaxInFlight),
		ready: make(chan struct{}), stopped: make(chan struct{}), live: map[relay.ID]*attempt{}, up: make(chan struct{}), watched: map[string]bool{},
	}
	t.subjects, _ = relay.NewSubjects(cfg.Prefix) // validated
	var err error
	t.grants, err = newGrants(cfg)
	return t, err
}

// SetTrust puts another trust file in force at once: services that it no longer names are unknown, and nothing more is sent
// to a worker that announced itself with a key that it no longer names. What is under way goes on.
func (t *Transport) SetTrust(trust *relay.Trust) {
	t.directory.setTrust(trust)
	select {
	case <-t.ready:
		if err := t.watch(t.nc); err != nil {
			t.log.Error("cannot listen for workers of the new services", "error", err)
		}
		t.discover()
	default: // Run will
	}
}

// SetIdentity signs with another identity key from now on. Workers must trust it already.
func (t *Transport) SetIdentity(id relay.Identity) { t.grants.setIdentity(id) }

// Services are the services that the trust file names.
func (t *Transport) Services() []string {
	t.directory.mu.Lock()
	defer t.directory.mu.Unlock()
	return t.directory.trust.Names(relay.RoleService)
}

// Run connects to NATS and keeps the directory and the requests alive until ctx ends. Requests still under way then fail
// with CodeStreamBroken; stop your HTTP server first. Run may be called once.
func (t *Transport) Run(ctx context.Context) error {
	defer close(t.stopped)
	up := make(chan struct{}, 1)
	cfg := t.cfg.NATS
	cfg.Name, cfg.Log = "obo-publisher "+t.cfg.App, t.log
	cfg.OnUp = func() {
		t.connected()
		select {
		case up <- struct{}{}:
		default:
		}
	}
	cfg.OnDown, cfg.OnDenied, cfg.OnAllowed, cfg.OnSlow = t.unknown, t.denied, t.allowed, func() { t.slow.Add(1) }
	nc, err := relay.Keep(cfg)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := t.subscribe(nc); err != nil {
		return err
	}
	if err := t.begin(nc); err != nil {
		return err
	}
	t.log.Info("publisher started", "app", t.cfg.App, "identity", t.grants.identity.Load().Kid(), "services", t.Services())
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	forget := time.NewTicker(forgetEvery)
	defer forget.Stop()
	for {
		select {
		case <-ctx.Done():
			t.end()
			_ = nc.NATS().FlushTimeout(time.Second) // best effort: cancels on their way
			return nil
		case <-tick.C:
			for _, a := range t.attempts() {
				a.stream.Tick()
			}
		case <-forget.C:
			t.grants.forget()
		case <-up:
			t.discover()
			for _, a := range t.attempts() {
				a.stream.Resend()
			}
		}
	}
}

// subscribe listens to all services' announcements and to all replies.
func (t *Transport) subscribe(nc *relay.Conn) error {
	if err := nc.Subscribe(t.subjects.Inbox(t.cfg.App, t.inbox), t.receive, 1<<18, 64<<20); err != nil {
		return err
	}
	return t.watch(nc)
}

// begin lets requests go out.
func (t *Transport) begin(nc *relay.Conn) error {
	t.nc = nc
	close(t.ready)
	return t.watch(nc) // again: trust that came since the first time has left it to Run
}

// watch listens to the announcements of every service that it does not listen to yet.
func (t *Transport) watch(nc *relay.Conn) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, service := range t.Services() {
		if t.watched[service] {
			continue
		}
		err := nc.Subscribe(t.subjects.Announce(service), func(m *nats.Msg) { t.announced(service, m) }, 1<<12, 1<<20)
		if err != nil {
			return err
		}
		t.watched[service] = true
	}
	return nil
}

// discover asks all workers to announce themselves, best effort: a request that finds none asks again.
func (t *Transport) discover() {
	for _, service := range t.Services() {
		_ = t.nc.NATS().Publish(t.subjects.Discover(service), nil)
	}
}

func (t *Transport) announced(service string, m *nats.Msg) {
	known, before, _ := t.directory.candidates(service)
	err := t.directory.heard(service, m.Data)
	if err != nil {
		if e := relay.AsError(err); e.Code != relay.CodeRefused && t.doubts.Allow() {
			t.log.Warn("an announcement was not believed", "service", service, "code", string(e.Code), "reason", e.Detail, "remedy", e.Code.Info().Remedy)
		} else {
			t.log.Debug("an announcement was dropped", "service", service, "reason", e.Error())
		}
		return
	}
	if known && len(before) == 0 {
		t.log.Info("workers are ready", "service", service)
	}
}

// receive hands a reply frame to its request; it never blocks.
func (t *Transport) receive(m *nats.Msg) {
	addr := t.subjects.Parse(m.Subject)
	if addr.Kind != relay.KindReply {
		return
	}
	t.mu.Lock()
	a := t.live[addr.ID]
	t.mu.Unlock()
	if a == nil {
		return
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		a.hint(relay.CodeOutcomeUnknown)
		return
	}
	if code, ok := relay.ParseUnsealedRefusal(m.Data); ok {
		if code != relay.CodeGrantUnknown || !a.grantUnknown() {
			a.hint(code)
		}
		return
	}
	_ = a.stream.Deliver(m.Data) // what does not open changes nothing
}

// denied fails the requests whose subject the server says it denied: such an error comes without the message. One of which the
// worker has been heard was passed on. Where it denies what workers are found by, that is why there are none; where it denies the
// replies, nothing more is sent.
func (t *Transport) denied(err error) {
	names := func(subject string) bool { return strings.Contains(err.Error(), `"`+subject+`"`) }
	if names(t.subjects.Inbox(t.cfg.App, t.inbox)) {
		t.deaf.Store(relay.Wrap(relay.CodeNATSDenied, err, "the server does not let this user receive the replies to app "+t.cfg.App))
	}
	for _, service := range t.Services() {
		if hears := names(t.subjects.Announce(service)); hears || names(t.subjects.Discover(service)) {
			t.directory.denied(service, hears, err)
		}
	}
	for _, a := range t.attempts() {
		if a.stream.Heard() == 0 && names(a.subject) {
			a.stream.Fail(relay.Wrap(relay.CodeNATSDenied, err, "the server says that it did not pass the request on"))
		}
	}
}

// allowed notes that the server lets a subscription through that it denied.
func (t *Transport) allowed(subject string) {
	if subject == t.subjects.Inbox(t.cfg.App, t.inbox) {
		t.deaf.Store(nil)
	}
	for _, service := range t.Services() {
		if subject == t.subjects.Announce(service) {
			t.directory.allowed(service)
		}
	}
}

// unknown notes that the connection is gone: what the next one's server denies it will say.
func (t *Transport) unknown() {
	t.deaf.Store(nil)
	t.directory.allowed("")
}

func (t *Transport) attempts() []*attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*attempt, 0, len(t.live))
	for _, a := range t.live {
		out = append(out, a)
	}
	return out
}

func (t *Transport) connected() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.up)
	t.up = make(chan struct{})
}

// enter registers an attempt, so that replies reach it; false once the publisher is stopping.
func (t *Transport) enter(id relay.ID, a *attempt) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closing {
		return false
	}
	t.live[id] = a
	return true
}

// end fails what is still under way, and tells the workers. It has been published, so its outcome is unknown.
func (t *Transport) end() {
	t.mu.Lock()
	t.closing = true
	t.mu.Unlock()
	for _, a := range t.attempts() {
		a.stream.Cancel(relay.CodePublisherDraining, relay.NewError(relay.CodeStreamBroken, "the publisher stopped while the request was under way"))
	}
}

// awaitConnection waits a little for NATS. Nothing of the request has been sent, so waiting is safe for every method.
func (t *Transport) awaitConnection(ctx context.Context) *relay.Error {
	var expired <-chan time.Time
	ready := t.ready
	for {
		up := t.nextConnect()
		select {
		case <-ready:
			if t.nc.NATS().IsConnected() {
				return t.checkServer()
			}
			ready = nil
		default:
		}
		if expired == nil {
			timer := time.NewTimer(t.cfg.ConnectWait)
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case <-up:
			ready = t.ready
		case <-ready:
		case <-t.stopped:
			return relay.NewError(relay.CodePublisherDraining, "the publisher has stopped")
		case <-expired:
			return relay.Errorf(relay.CodeNATSUnavailable, "NATS could not be reached for %v", t.cfg.ConnectWait)
		case <-ctx.Done():
			return canceled(ctx)
		}
	}
}

// nextConnect is closed at the next connect.
func (t *Transport) nextConnect() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.up
}

// awaitReconnect waits for a connect after a message could not be published: nats.go notices a broken connection a moment
// later than who writes to it, and until then says that it is connected.
func (t *Transport) awaitReconnect(ctx context.Context, connected <-chan struct{}) {
	timer := time.NewTimer(min(time.Second, t.cfg.ConnectWait))
	defer timer.Stop()
	select {
	case <-connected:
	case <-timer.C:
	case <-t.stopped:
	case <-ctx.Done():
	}
}

// checkServer refuses a server that would not carry a whole head (PROTOCOL.md §7) or a reply.
func (t *Transport) checkServer() *relay.Error {
	if fault := t.deaf.Load(); fault != nil {
		return fault
	}
	if most := t.nc.NATS().MaxPayload(); most < relay.MinMaxPayload {
		return relay.Errorf(relay.CodeNATSUnavailable, "the NATS server's max_payload is %d bytes, obo needs %d: raise it", most, relay.MinMaxPayload)
	}
	return nil
}

func canceled(ctx context.Context) *relay.Error {
	if ctx.Err() == context.DeadlineExceeded {
		return relay.Wrap(relay.CodeTimeout, context.Cause(ctx), "the caller's deadline passed")
	}
	return relay.Wrap(relay.CodeCanceled, context.Cause(ctx), "the caller left")
}
