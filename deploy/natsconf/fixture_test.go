package natsconf_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
)

// user is an nkey with both halves.
type user struct {
	public string
	pair   nkeys.KeyPair
}

func newUser(t *testing.T) user {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return user{public, pair}
}

func (u user) seed(t *testing.T) []byte {
	t.Helper()
	seed, err := u.pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

// Users of the fixture. There is an app and a service named billing, which are two users.
const (
	ui         = "app ui"
	batch      = "app batch"
	billingApp = "app billing"
	middleware = "service middleware"
	billing    = "service billing"
	inspector  = "inspector"
	system     = "system"
	auditor    = "auditor"
	root       = "root" // not from the generated text: an unrestricted witness in OBO
)

// fixture is a real nats-server that runs a generated configuration.
type fixture struct {
	server *server.Server
	users  map[string]user
}

func testConfig(users map[string]user) natsconf.Config {
	key := func(name string) []string { return []string{users[name].public} }
	return natsconf.Config{
		Listen: "127.0.0.1:-1",
		Apps: []natsconf.App{
			{Name: "ui", NKeys: key(ui), Calls: []string{"middleware"}},
			{Name: "batch", NKeys: key(batch), Calls: []string{"billing"}},
			{Name: "billing", NKeys: key(billingApp), Calls: []string{"middleware"}},
		},
		Services: []natsconf.Service{
			{Name: "middleware", NKeys: key(middleware), Apps: []string{"ui", "billing"}},
			{Name: "billing", NKeys: key(billing), Apps: []string{"batch"}},
		},
		InspectorNKeys: key(inspector),
		SystemNKeys:    key(system),
	}
}

func testUsers(t *testing.T) map[string]user {
	t.Helper()
	users := map[string]user{}
	for _, name := range []string{ui, batch, billingApp, middleware, billing, inspector, system, auditor, root} {
		users[name] = newUser(t)
	}
	return users
}

// start runs the server from the generated text; change may alter the Config before.
func start(t *testing.T, change func(*natsconf.Config)) *fixture {
	t.Helper()
	return startWith(t, testUsers(t), change)
}

// startAudit is start with an auditor.
func startAudit(t *testing.T) *fixture {
	t.Helper()
	users := testUsers(t)
	return startWith(t, users, func(c *natsconf.Config) { c.AuditorNKeys, c.StoreDir = []string{users[auditor].public}, t.TempDir() })
}

func startWith(t *testing.T, users map[string]user, change func(*natsconf.Config)) *fixture {
	t.Helper()
	cfg := testConfig(users)
	if change != nil {
		change(&cfg)
	}
	text, err := cfg.ServerConf()
	if err != nil {
		t.Fatal(err)
	}
	opts := &server.Options{NoLog: true, NoSigs: true}
	if err := opts.ProcessConfigString(text); err != nil {
		t.Fatalf("nats-server does not accept the generated text: %v\n%s", err, text)
	}
	for _, account := range opts.Accounts {
		if account.Name == "OBO" {
			opts.Nkeys = append(opts.Nkeys, &server.NkeyUser{Nkey: users[root].public, Account: account})
		}
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("server not ready")
	}
	return &fixture{srv, users}
}

func (f *fixture) connect(t *testing.T, name string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	u := f.users[name]
	opts = append([]nats.Option{
		nats.Nkey(u.public, u.pair.Sign),
		// Permission errors are read with LastError; the default handler would print them.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, opts...)
	nc, err := nats.Connect(f.server.ClientURL(), opts...)
	if err != nil {
		t.Fatalf("connect as %s: %v", name, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// roundTrip flushes. The server answers a connection in order, so a violation is in LastError when it returns.
func roundTrip(t *testing.T, nc *nats.Conn) {
	t.Helper()
	if err := nc.FlushTimeout(10 * time.Second); err != nil {
		t.Fatal(err)
	}
}

// receive is the next message of a subscription.
func receive(t *testing.T, sub *nats.Subscription) *nats.Msg {
	t.Helper()
	msg, err := sub.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatalf("no message on %s: %v", sub.Subject, err)
	}
	return msg
}

func subscribe(t *testing.T, nc *nats.Conn, subject string) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync(subject)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, nc)
	if err := nc.LastError(); err != nil {
		t.Fatalf("subscribe %s: %v", subject, err)
	}
	return sub
}

func publish(t *testing.T, nc *nats.Conn, msg *nats.Msg) error {
	t.Helper()
	if err := nc.PublishMsg(msg); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, nc)
	return nc.LastError()
}
