package doctor

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/brokerapp"
	"github.com/obo-relay/obo-relay/worker"
)

func TestAllIsWell(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	report := r.look()
	if report.Verdict != OK || report.ExitCode() != 0 {
		t.Errorf("%s", report.text())
	}
	for name, detail := range map[string]string{
		"environment": "OBO_KIT=set OBO_NATS=set", "settings": "app ui", "user authorization": "a test", "token": "lives for another",
		"scopes": "iam.current-user:read", "workspace": "answers", "person": alice + ", in 1 groups", "egress": "is open", "nats": r.net.App.Public,
		"server ids": "the same server", "permissions": "as needed, and no more", "trust": r.net.ServiceID.Kid(), "workers": "ready, version",
		"trust of the worker": r.net.AppID.Kid(), "round trip": "answered 200", "clock": "agree",
	} {
		report.want(t, name, OK, detail, "")
	}
	var parts []string
	for _, p := range report.RoundTrip {
		parts = append(parts, p.Name)
	}
	if got := strings.Join(parts, ", "); got != "resolve, connect, discover, grant, relay, worker identity, app" {
		t.Error(got)
	}
	for _, want := range []string{"ok    nats", "worker identity", "0 warnings, 0 failed, 0 skipped"} {
		if !strings.Contains(report.text(), want) {
			t.Errorf("%q is missing in\n%s", want, report.text())
		}
	}
}

func TestTokenHasExpired(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.cfg.Token = r.token(sandbox.TokenOptions{Lifetime: -10 * time.Minute})
	report := r.look()
	report.want(t, "token", Failed, "the access token expired 10m", "Reload the page")
	report.want(t, "round trip", Skipped, "", "")
	report.wantOnly(t, "token")
}

func TestTokenLacksAScope(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.cfg.Token = r.token(sandbox.TokenOptions{Scopes: []string{"iam.access-control:read"}})
	report := r.look()
	report.want(t, "scopes", Failed, "lacks iam.current-user:read", "Add the scope to the UI app's user authorization")
	report.want(t, "person", Failed, "scope_missing", "Add the scope")
	report.want(t, "round trip", Failed, "scope_missing", "Add the scope")
	report.wantOnly(t, "scopes", "person", "round trip")
}

func TestTokenLacksAScopeThatIsAskedFor(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.cfg.Scopes = []string{"sql"}
	report := r.look()
	report.want(t, "scopes", Failed, "lacks sql", "Add the scope")
	report.wantOnly(t, "scopes")
}

func TestNoToken(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.cfg.Token, r.cfg.TokenFrom = "", "standard input"
	report := r.look()
	report.want(t, "user authorization", Warning, "none in standard input", `"user token passthrough not enabled"`)
	report.want(t, "person", Skipped, "", "")
	if report.ExitCode() != 3 {
		t.Errorf("exit code %d, want that of warnings\n%s", report.ExitCode(), report.text())
	}
}

func TestTokenForEverything(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.cfg.Token = r.token(sandbox.TokenOptions{Scopes: []string{"all-apis"}, Lifetime: 2 * time.Minute})
	report := r.look()
	report.want(t, "scopes", Warning, "all-apis", "a token that the platform gave the app")
	report.want(t, "token", Warning, "expires in", "Reload")
	report.want(t, "round trip", OK, "", "")
}

func TestNoBroker(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.net.StopBroker()
	report := r.look()
	report.want(t, "egress", Failed, "cannot be reached", "Start the NATS server")
	report.wantOnly(t, "egress")
}

func TestUnknownHost(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.cfg.Side.Connect.URL = "nats://broker.invalid:4222"
	report := r.look()
	report.want(t, "egress", Failed, "the name broker.invalid is not known here", "--nats URL")
	report.wantOnly(t, "egress")
}

func TestWrongNKey(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	stranger := relaytest.NewUser(t)
	r.cfg.Side.Connect.NKeySeed = stranger.Seed
	report := r.look()
	report.want(t, "nats", Failed, "does not let the user "+stranger.Public+" in", "put its public key into the server's configuration (obo init writes it)")
	report.wantOnly(t, "nats")
}

// What hangs up has refused no user.
func TestServerThatHangsUp(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		for {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	r := newRig(t, relaytest.Options{})
	r.cfg.Side.Connect.URL = "nats://" + other.Addr().String()
	report := r.look()
	report.want(t, "nats", Failed, "a connection cannot be made: ", "handshake_first")
	report.wantOnly(t, "nats")
}

func TestDeniedPermission(t *testing.T) {
	for denied, test := range map[string]struct{ old, new, want string }{
		"publish":   {"obo.v1.ctl.middleware.*.ui.*", "obo.v1.ctl.other.*.ui.*", "publish obo.v1.ctl.middleware."},
		"subscribe": {"obo.v1.rep.ui.*.*", "obo.v1.rep.other.*.*", "subscribe obo.v1.rep.ui."},
	} {
		t.Run(denied, func(t *testing.T) {
			r := newRig(t, relaytest.Options{ServerConf: func(text string) string {
				head, tail, _ := strings.Cut(text, "Service middleware:") // the app's users come first
				return strings.Replace(head, test.old, test.new, 1) + "Service middleware:" + tail
			}})
			r.worker(nil)
			r.cfg.Token = "" // a round trip that waits for a reply in vain would take its time
			report := r.look()
			report.want(t, "permissions", Failed, test.want, "what obo init writes")
			report.wantOnly(t, "permissions")
		})
	}
}

// Who may not look for workers is not told that there is none.
func TestDeniedToLookForWorkers(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.cfg.Side.Prefix = "another"
	report := r.look()
	report.want(t, "permissions", Failed, "publish another.obo.v1.discover.middleware", "--subject-prefix")
	report.want(t, "workers", Skipped, "may not look for workers", "")
	report.wantOnly(t, "permissions")
}

func TestTooManyPermissions(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.cfg.Side.Connect.NKeySeed = r.net.Root.Seed
	report := r.look()
	report.want(t, "permissions", Warning, "may listen to everything", "least-privilege")
	if report.ExitCode() != 3 {
		t.Error(report.text())
	}
}

func TestClockSkew(t *testing.T) {
	for name, off := range map[string]time.Duration{"behind": -10 * time.Minute, "ahead": 10 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, relaytest.Options{})
			r.worker(nil)
			r.cfg.Now = in(off)
			report := r.look()
			report.want(t, "clock", Failed, "clock", "Set the clocks of both machines (NTP)")
			n := 0
			for _, c := range report.Checks {
				if c.Name == "clock" && c.Verdict == Failed {
					n++
				}
			}
			if n != 2 { // the workspace's, and the worker's
				t.Errorf("%d clocks are off, want 2\n%s", n, report.text())
			}
			report.wantOnly(t, "clock")
		})
	}
}

func TestClockIsALittleOff(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.cfg.Now = in(-20 * time.Second)
	report := r.look()
	report.want(t, "clock", Warning, "ahead of this one", "NTP")
	report.want(t, "round trip", OK, "", "")
}

func TestWorkerIsNotTrusted(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.cfg.Side.Trust = relaytest.TrustOf(t, r.net.AppID, relay.NewIdentity())
	r.cfg.Wait = 2 * time.Second // for one that will not come
	report := r.look()
	report.want(t, "trust", Failed, "announces itself with key "+r.net.ServiceID.Kid(), "Put the service's public key into the publisher's trust file")
	report.wantOnly(t, "trust")
}

func TestServiceIsNotInTheTrustFile(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.cfg.Services = []string{"billing"}
	report := r.look()
	report.want(t, "trust", Failed, "service_unknown: the trust file does not name the service billing", "Use a service that the publisher's trust file names")
	report.wantOnly(t, "permissions", "trust")
}

func TestAppIsNotTrusted(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(func(c *worker.Config) { c.Trust = relaytest.TrustOf(t, relay.NewIdentity(), r.net.ServiceID) })
	report := r.look()
	report.want(t, "trust of the worker", Failed, "refused_unverified", "Put this app's public key "+r.net.AppID.Kid()+" under apps.ui into the trust file of service middleware")
	report.wantOnly(t, "trust of the worker")
}

func TestTwoBrokers(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	other := relaytest.NewWith(t, io.Discard, relaytest.Options{Conf: func(c *natsconf.Config) {
		c.Apps[0].NKeys = append(c.Apps[0].NKeys, r.net.App.Public)
		c.Services[0].NKeys = append(c.Services[0].NKeys, r.net.Service.Public)
	}})
	r.cfg.Side.Connect.URL = takeTurns(t, r.net.URL, other.URL)
	r.cfg.Wait, r.cfg.Timeout = time.Second, 3*time.Second // whoever is at the other broker finds nobody
	report := r.look()
	report.want(t, "server ids", Failed, "2 NATS servers that do not know of each other", "exactly one instance")
	report.wantOnly(t, "server ids", "workers", "round trip")
}

// takeTurns is a proxy that leads each connection to another server, as a platform does with the instances of an app.
func takeTurns(t *testing.T, urls ...string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", strings.TrimPrefix(urls[i%len(urls)], "nats://"))
			if err != nil {
				_ = in.Close() // the test sees it
				continue
			}
			pipe := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_, _ = to.Close(), from.Close()
			}
			go pipe(in, out)
			go pipe(out, in)
		}
	}()
	t.Cleanup(func() { relaytest.Must(t, listener.Close()); <-done })
	return "nats://" + listener.Addr().String()
}

func TestNoWorker(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.cfg.Wait = 500 * time.Millisecond
	report := r.look()
	report.want(t, "workers", Failed, "no_worker", "Start obo-worker for this service")
	report.wantOnly(t, "workers")
}

func TestWorkspaceIsUnreachable(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.cfg.Workspace = "http://127.0.0.1:1"
	report := r.look()
	report.want(t, "workspace", Failed, "connection refused", "let the network policy")
	report.wantOnly(t, "workspace")
}

func TestPersonIsNotPermitted(t *testing.T) {
	t.Run("by the policy", func(t *testing.T) {
		r := newRig(t, relaytest.Options{})
		policy, err := worker.ParsePolicy("p", []byte("type: obo.v1.policy\nrules:\n  - {match: /, groups: [data-admins]}\n"))
		relaytest.Must(t, err)
		r.worker(func(c *worker.Config) { c.Policy = policy })
		report := r.look()
		report.want(t, "round trip", Failed, "forbidden", "Ask the owner of the service for access")
		report.wantOnly(t, "round trip")
	})
	t.Run("by the workspace", func(t *testing.T) {
		r := newRig(t, relaytest.Options{})
		r.worker(nil)
		relaytest.Must(t, r.workspace.SetActive(alice, false))
		report := r.look()
		report.want(t, "person", Failed, "forbidden", "Ask the owner")
		report.wantOnly(t, "person", "round trip")
	})
	t.Run("by the app", func(t *testing.T) {
		r := newRig(t, relaytest.Options{})
		r.app.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
		r.worker(nil)
		r.look().want(t, "round trip", Warning, "the app answered 403", "name another --path")
	})
}

// A worker that has no middleware app serves its own routes.
func TestNoMiddlewareApp(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(func(c *worker.Config) {
		routes, err := worker.NewRoutes(worker.RoutesConfig{Workspace: c.Workspace, Log: r.net.Log})
		relaytest.Must(t, err)
		t.Cleanup(routes.Close)
		c.Handler = routes
	})
	r.look().want(t, "round trip", Warning, "the relay works, but GET / is answered not_found", "--path: /.obo/me")
	r.cfg.Path = mePath
	r.look().want(t, "round trip", OK, "as "+alice, "")
}

func TestMiddlewareAppIsGone(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.app.Close()
	report := r.look()
	report.want(t, "round trip", Failed, "upstream_unreachable", "Start the app, or correct the worker's --forward URL")
	report.want(t, "trust of the worker", OK, "", "")
	report.wantOnly(t, "round trip")
}

func TestSettings(t *testing.T) {
	t.Parallel()
	fault := errors.Join(errors.New("--key-file (OBO_KEY_FILE): no identity key"), errors.New("--nats (OBO_NATS): no NATS server"))
	onPlatform := Run(t.Context(), Config{SettingsFault: fault, Environ: []string{"DATABRICKS_APP_NAME=ui", "DATABRICKS_DEBUG_HEADERS=1"}})
	onPlatform.want(t, "settings", Failed, "no identity key", "Give the app its secret")
	onPlatform.want(t, "environment", Failed, "", "Unset DATABRICKS_DEBUG_HEADERS")
	laptop := Run(t.Context(), Config{})
	laptop.want(t, "settings", Warning, "no kit", "obo init makes it")
	laptop.want(t, "workspace", Warning, "nothing says which", "--workspace")
	laptop.want(t, "environment", OK, "no variable", "")
	Run(t.Context(), Config{Environ: []string{"DATABRICKS_DEBUG_HEADERS=false"}}).want(t, "environment", OK, "", "")
	Run(t.Context(), Config{Workspace: "https://adb-1.azuredatabricks.net/?o=1"}).want(t, "workspace", Failed, "has more than a host", "--workspace")
	if laptop.ExitCode() != 3 || onPlatform.ExitCode() != 1 {
		t.Error(laptop.text(), onPlatform.text())
	}
	checkDocument(t, laptop)
	checkDocument(t, onPlatform)
}

// asService turns to the other side.
func (r *rig) asService() {
	r.cfg.Role, r.cfg.Name, r.cfg.Forward = relay.RoleService, relaytest.Service, r.app.URL
	r.cfg.Side.Name, r.cfg.Side.Identity, r.cfg.Side.Connect.NKeySeed = relaytest.Service, r.net.ServiceID, r.net.Service.Seed
}

func TestServiceSide(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.asService()
	report := r.look()
	if report.Verdict != OK {
		t.Error(report.text())
	}
	report.want(t, "permissions", OK, "2 subjects to publish on and 2 to subscribe to", "")
	report.want(t, "app", OK, "accepts connections", "")
	report.want(t, "trust of apps", Skipped, "shows where they run", "")
	r.app.Close()
	report = r.look()
	report.want(t, "app", Failed, "nothing accepts connections", "--forward")
	report.wantOnly(t, "app")
}

func TestHold(t *testing.T) {
	r := newRig(t, relaytest.Options{})
	r.worker(nil)
	r.cfg.Hold = 50 * time.Millisecond
	r.look().want(t, "hold", OK, "lived for 50ms", "")

	d := &doctor{cfg: r.cfg.withDefaults(), Report: newReport(time.Now())}
	d.cfg.Hold = time.Minute
	ended := make(chan struct{})
	go func() { defer close(ended); d.hold(t.Context()) }()
	inspector := r.net.Connect(r.net.Sys, nats.CustomInboxPrefix(natsconf.SystemInbox))
	for deadline := time.Now().Add(relaytest.Patience); ; {
		m, err := inspector.Request("$SYS.REQ.SERVER.PING.CONNZ", nil, relaytest.Patience)
		relaytest.Must(t, err)
		if strings.Contains(string(m.Data), "obo doctor --hold") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the connection that is held did not show")
		}
	}
	r.net.StopBroker()
	<-ended
	d.want(t, "hold", Warning, "was ended after", "reconnect")
}

func TestBrokerApp(t *testing.T) {
	r := newRig(t, relaytest.Options{Broker: func(b *broker.Config) { b.App = &broker.App{Listen: "127.0.0.1:0"} }})
	r.worker(nil)
	workspace, err := sandbox.New(sandbox.Config{Apps: []sandbox.App{{Name: "ui"}, {Name: "stranger"}, {Name: "obo-broker", CanUse: []string{"ui"}}}})
	relaytest.Must(t, err)
	api, err := workspace.Listen("127.0.0.1:0")
	relaytest.Must(t, err)
	t.Cleanup(func() { relaytest.Must(t, api.Close()) })
	at := strings.TrimSuffix(strings.Replace(r.net.Broker.WebSocketURL(), "ws://", "http://", 1), brokerapp.Path)
	front, err := sandbox.NewFront(sandbox.FrontConfig{Workspace: workspace, App: "obo-broker", Upstream: at, BearerOnlyAPI: true})
	relaytest.Must(t, err)
	door, err := front.Listen("127.0.0.1:0")
	relaytest.Must(t, err)
	t.Cleanup(func() { relaytest.Must(t, door.Close()) })
	as := func(app string) {
		sp, _ := workspace.App(app)
		r.cfg.Side.Connect.URL = "app:obo-broker"
		r.cfg.Side.Connect.Principal = brokerapp.Principal{Workspace: workspace.URL(), ClientID: sp.ClientID, Secret: sp.ClientSecret}
	}
	as("ui")
	report := r.look()
	report.want(t, "egress", OK, "upgrades to WebSocket", "")
	report.want(t, "round trip", OK, "", "")
	as("stranger")
	report = r.look()
	report.want(t, "egress", Failed, "CAN USE", "CAN USE")
	report.wantOnly(t, "egress")
}
