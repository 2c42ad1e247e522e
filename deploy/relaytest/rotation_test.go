package relaytest_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/broker"
	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// conversation is one request whose body and reply go on together: what is said comes back.
type conversation struct {
	t    *testing.T
	say  *io.PipeWriter
	hear io.ReadCloser
}

// talkative is echo that flushes.
func talkative(w http.ResponseWriter, r *http.Request) {
	buf := make([]byte, 4<<10)
	_ = http.NewResponseController(w).Flush()
	for {
		n, err := r.Body.Read(buf)
		_, _ = w.Write(buf[:n])
		_ = http.NewResponseController(w).Flush()
		if err != nil {
			return
		}
	}
}

func converse(t *testing.T, client *publisher.Transport) *conversation {
	t.Helper()
	body, say := io.Pipe()
	r := newRequest(t, "POST", "/talk", body)
	r.Header.Set("X-Forwarded-Access-Token", relaytest.Token("alice", tomorrow()))
	resp, err := client.RoundTrip(r)
	relaytest.Must(t, err)
	c := &conversation{t, say, resp.Body}
	t.Cleanup(func() { _ = say.Close(); _ = resp.Body.Close() })
	return c
}

func (c *conversation) turn() {
	c.t.Helper()
	_, err := io.WriteString(c.say, "hello")
	if err == nil {
		_, err = io.ReadFull(c.hear, make([]byte, len("hello")))
	}
	if err != nil {
		c.t.Fatalf("the stream broke: %v", err)
	}
}

func (c *conversation) end() {
	c.t.Helper()
	_ = c.say.Close()
	if rest, err := io.ReadAll(c.hear); err != nil || len(rest) != 0 {
		c.t.Errorf("the stream ends with %q, %v", rest, err)
	}
}

// shifted is a clock that both sides share and a test moves ahead.
type shifted struct{ ahead atomic.Int64 }

func (s *shifted) now() time.Time       { return time.Now().Add(time.Duration(s.ahead.Load())) }
func (s *shifted) pass(d time.Duration) { s.ahead.Add(int64(d)) }

// Instance keys are replaced while requests come and one stream goes on for longer than its grant and the key that this
// was sealed to: no request is lost.
func TestInstanceKeyRotation(t *testing.T) {
	n, log := start(t)
	clock := &shifted{}
	const keyLife = time.Minute
	n.Worker(http.HandlerFunc(talkative), func(c *worker.Config) { c.KeyLife, c.Now = keyLife, clock.now })
	client := n.Publisher(func(c *publisher.Config) { c.Now = clock.now })
	token := relaytest.Token("alice", tomorrow())
	talk := converse(t, client)
	const destroyed = keyLife + relay.MaxGrantLife + relay.Leeway
	for began := clock.now(); clock.now().Sub(began) < destroyed+10*time.Second && !t.Failed(); {
		clock.pass(2 * time.Second) // under the silence limit
		talk.turn()
		each(2, func(int) {
			r := newRequest(t, "POST", "/", strings.NewReader("body"))
			r.Header.Set("X-Forwarded-Access-Token", token)
			if got := do(client, r); got.err != nil || got.body != "body" {
				t.Errorf("%s", got)
			}
		})
		if keys := int(clock.now().Sub(began) / (keyLife / 2)); keys > strings.Count(log.String(), "new instance key")+1 {
			log.WaitTimes(t, keys-1, "new instance key") // the worker looks at its clock twice a second
		}
	}
	talk.end()
}

// trustIn binds any number of keys to each side.
func trustIn(t *testing.T, apps, services []relay.Identity) *relay.Trust {
	t.Helper()
	keys := func(ids []relay.Identity) (set relay.JWKS) {
		for _, id := range ids {
			set.Keys = append(set.Keys, id.Public())
		}
		return set
	}
	trust, err := relay.TrustFile{
		Type: relay.TrustTypeName, Apps: map[string]relay.JWKS{relaytest.App: keys(apps)}, Services: map[string]relay.JWKS{relaytest.Service: keys(services)},
	}.Trust()
	relaytest.Must(t, err)
	return trust
}

// Identity keys of both sides are replaced under load, without a restart: trust first, then the key, then the old one goes.
// No request is lost, nor a stream that began before and goes on after.
func TestIdentityRotation(t *testing.T) {
	n, log := start(t)
	w, _ := n.Worker(http.HandlerFunc(talkative), nil)
	client := n.Publisher(nil)
	waitForWorkers(t, n, 1)
	talk := converse(t, client)
	people := call(t, client, 4)
	announcements := n.Tap(n.Inspector, "obo.v1.announce.>")
	app, service := n.AppID, n.ServiceID
	for range 3 {
		nextApp, nextService := relay.NewIdentity(), relay.NewIdentity()
		both := trustIn(t, []relay.Identity{app, nextApp}, []relay.Identity{service, nextService})
		w.SetTrust(both)
		client.SetTrust(both)
		w.SetIdentity(nextService)
		client.SetIdentity(nextApp)
		talk.turn()
		log.Wait(t, "an app's key is in use", nextApp.Kid())
		for i, announced := 1, false; !announced; i++ {
			said, err := both.VerifyAnnouncement(relaytest.Service, announcements.Wait(".announce.", i).Data, time.Now())
			announced = err == nil && said.SignedBy() == nextService.Kid()
		}
		people.settle() // what was sealed under the old keys has been answered
		next := trustIn(t, []relay.Identity{nextApp}, []relay.Identity{nextService})
		client.SetTrust(next)
		w.SetTrust(next)
		people.settle()
		talk.turn()
		app, service = nextApp, nextService
	}
	people.stop()
	talk.end()
}

// A key that is taken out of the trust file is refused from that moment on, also where its grant was opened before; what is
// under way goes on to its end, on either side.
func TestRetiredKeyIsRefusedAtOnce(t *testing.T) {
	n, log := start(t)
	handler := &counter{handler: talkative}
	w, _ := n.Worker(handler, nil)
	client := n.Publisher(nil)
	talk := converse(t, client)
	r := func() *http.Request {
		r := newRequest(t, "POST", "/", strings.NewReader("body"))
		r.Header.Set("X-Forwarded-Access-Token", relaytest.Token("alice", tomorrow()))
		return r
	}
	if got := do(client, r()); got.err != nil {
		t.Fatalf("%s", got)
	}
	w.SetTrust(trustIn(t, []relay.Identity{relay.NewIdentity()}, []relay.Identity{n.ServiceID}))
	do(client, r()).wantCode(t, relay.CodeRefusedUnverified, "trust file lacks this app's key")
	log.Wait(t, "refused", n.AppID.Kid(), "add it to this worker's trust file if it is right")
	handler.want(t, 2)
	talk.turn()
	w.SetTrust(n.Trust)
	client.SetTrust(trustIn(t, []relay.Identity{n.AppID}, []relay.Identity{relay.NewIdentity()}))
	tap := n.Tap(n.Inspector, "obo.v1.req.>")
	do(client, r()).wantCode(t, relay.CodeWorkerUntrusted, n.ServiceID.Kid())
	if len(tap.All()) != 0 {
		t.Error("a request was sent to a worker whose key is retired")
	}
	talk.turn()
	talk.end()
}

// NATS users are replaced under load: the server learns the new ones, a worker and a publisher start as them and take over,
// the old ones drain, and the server forgets them. No request is lost.
func TestNATSUserRotation(t *testing.T) {
	t.Parallel()
	log := new(relaytest.Log)
	file := filepath.Join(t.TempDir(), "nats-server.conf")
	var conf natsconf.Config
	n := relaytest.NewWith(t, log, relaytest.Options{
		Conf: func(c *natsconf.Config) { conf = *c },
		Broker: func(c *broker.Config) {
			relaytest.Must(t, os.WriteFile(file, []byte(c.ConfigText), 0o600))
			c.ConfigFile, c.ConfigText = file, ""
		},
	})
	reload := func(app, service []string) {
		conf.Apps[0].NKeys, conf.Services[0].NKeys = app, service
		text, err := conf.ServerConf()
		relaytest.Must(t, err)
		relaytest.Must(t, os.WriteFile(file, []byte(relaytest.WithRoot(text, n.Root)), 0o600))
		relaytest.Must(t, n.Broker.Reload())
	}
	settings := func(c *worker.Config) { c.DrainQuiet = time.Second }
	_, stopWorker := n.Worker(http.HandlerFunc(echo), settings)
	client, stopClient := n.StoppablePublisher(nil)
	waitForWorkers(t, n, 1)
	people := call(t, client, 4)
	for round := range 2 {
		oldApp, oldService := n.App, n.Service
		n.App, n.Service = relaytest.NewUser(t), relaytest.NewUser(t)
		reload([]string{oldApp.Public, n.App.Public}, []string{oldService.Public, n.Service.Public})
		people.settle() // the server kept everybody's connection

		_, nextWorker := n.Worker(http.HandlerFunc(echo), settings)
		log.WaitTimes(t, round+2, "worker started")
		stopWorker()
		stopWorker = nextWorker
		next, stopNext := n.StoppablePublisher(nil)
		people.use(next)
		people.settle()
		stopClient()
		stopClient = stopNext

		reload([]string{n.App.Public}, []string{n.Service.Public})
		people.settle()
		stranger := n.Publisher(func(c *publisher.Config) { c.NATS.NKeySeed, c.ConnectWait = oldApp.Seed, 100*time.Millisecond })
		send(t, stranger, "POST", "/").wantCode(t, relay.CodeNATSUnavailable)
		log.WaitTimes(t, round+1, "cannot connect to NATS, trying again", "Authorization Violation", "obo init")
	}
	people.stop()
}

// callers send requests of different people until stopped.
type callers struct {
	t        *testing.T
	client   atomic.Pointer[publisher.Transport]
	sent     []atomic.Int64
	progress chan struct{} // capacity 1
	end      chan struct{}
	running  sync.WaitGroup
}

func call(t *testing.T, client *publisher.Transport, people int) *callers {
	c := &callers{t: t, sent: make([]atomic.Int64, people), progress: make(chan struct{}, 1), end: make(chan struct{})}
	c.use(client)
	for i := range people {
		token := relaytest.Token(fmt.Sprint("person", i), tomorrow())
		c.running.Go(func() {
			for c.one(token) {
				c.sent[i].Add(1)
				select {
				case c.progress <- struct{}{}:
				default:
				}
			}
		})
	}
	t.Cleanup(c.stop)
	return c
}

func (c *callers) one(token string) bool {
	select {
	case <-c.end:
		return false
	default:
	}
	r := newRequest(c.t, "POST", "/", strings.NewReader("body"))
	r.Header.Set("X-Forwarded-Access-Token", token)
	got := do(c.client.Load(), r)
	if got.err != nil || got.body != "body" {
		c.t.Errorf("a request was lost: %s", got)
		return false
	}
	return true
}

// use sends what follows by another publisher.
func (c *callers) use(client *publisher.Transport) { c.client.Store(client) }

// settle returns when each of them has begun a request and got its answer.
func (c *callers) settle() {
	c.t.Helper()
	for i := range c.sent {
		for until := c.sent[i].Load() + 2; c.sent[i].Load() < until; {
			if c.t.Failed() {
				c.t.FailNow()
			}
			relaytest.Recv(c.t, c.progress, "an answer")
		}
	}
}

func (c *callers) stop() {
	select {
	case <-c.end:
	default:
		close(c.end)
	}
	c.running.Wait()
}
