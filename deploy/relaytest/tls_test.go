package relaytest_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// secured is a broker with TLS, and how to reach it.
type secured struct {
	*relaytest.Net
	log         *relaytest.Log
	authority   *relaytest.Authority
	dir         string
	first, soft relay.ConnectConfig // over plain TLS with the handshake first, and over wss
}

// startSecured starts a broker whose certificate is for a host and good until then; mutual wants one of clients too.
func startSecured(t *testing.T, host string, until time.Time, mutual bool) *secured {
	t.Helper()
	t.Parallel()
	s := &secured{log: new(relaytest.Log), dir: t.TempDir()}
	s.authority = relaytest.NewAuthority(t, s.dir, "authority")
	pair := natsconf.TLS{}
	pair.CertFile, pair.KeyFile = s.authority.Issue("server", host, until)
	if mutual {
		pair.ClientCAFile = s.authority.File
	}
	s.Net = relaytest.NewWith(t, s.log, relaytest.Options{Conf: func(c *natsconf.Config) {
		c.TLS, c.WebSocket = &pair, &natsconf.WebSocket{Listen: "127.0.0.1:-1", TLS: &pair}
	}})
	s.first = relay.ConnectConfig{URL: strings.Replace(s.Broker.ClientURL(), "nats:", "tls:", 1), CAFile: s.authority.File, TLSFirst: true}
	s.soft = relay.ConnectConfig{URL: s.Broker.WebSocketURL(), CAFile: s.authority.File}
	return s
}

// wantRequest sends one real request from end to end.
func (s *secured) wantRequest(t *testing.T, c relay.ConnectConfig) {
	t.Helper()
	_, stop := s.Worker(says("hello"), func(w *worker.Config) { c.NKeySeed = s.Service.Seed; w.NATS = c })
	client, end := s.StoppablePublisher(func(p *publisher.Config) {
		c.NKeySeed = s.App.Seed
		p.NATS, p.ConnectWait = c, relaytest.Patience
	})
	send(t, client, "POST", "/").want(t, 200, "hello")
	end()
	stop()
}

// wantRemedy starts a publisher that cannot connect and wants its log to say why and what to do.
func (s *secured) wantRemedy(t *testing.T, name string, c relay.ConnectConfig, parts ...string) {
	t.Helper()
	log := new(relaytest.Log)
	c.NKeySeed = s.App.Seed
	client, stop := s.StoppablePublisher(func(p *publisher.Config) {
		p.NATS, p.ConnectWait, p.Log = c, 10*time.Millisecond, textLog(log)
	})
	log.Wait(t, append([]string{"cannot connect to NATS, trying again", "remedy="}, parts...)...)
	send(t, client, "POST", "/").wantCode(t, relay.CodeNATSUnavailable)
	stop()
	if t.Failed() {
		t.Logf("%s: %v", name, c)
	}
}

func inAnHour() time.Time { return time.Now().Add(time.Hour) }

// Over TLS with the handshake first and over wss, with the authority as a file and as its content.
func TestTLS(t *testing.T) {
	s := startSecured(t, "127.0.0.1", inAnHour(), false)
	pem, err := os.ReadFile(s.authority.File)
	relaytest.Must(t, err)
	for _, c := range []relay.ConnectConfig{s.first, s.soft} {
		s.wantRequest(t, c)
		c.CA, c.CAFile = string(pem), ""
		s.wantRequest(t, c)
	}
	other := relaytest.NewAuthority(t, t.TempDir(), "other")
	for name, c := range map[string]relay.ConnectConfig{"TLS": s.first, "wss": s.soft} {
		c.CAFile = other.File
		s.wantRemedy(t, name, c, "certificate signed by unknown authority", "of another authority than --nats-ca-file names")
		c.CAFile = ""
		s.wantRemedy(t, name, c, "certificate signed by unknown authority", "with --nats-ca-file, as the system does not know it")
	}
	late := s.first
	late.TLSFirst = false
	s.wantRemedy(t, "no handshake first", late, "if the NATS server has handshake_first, set --nats-tls-first")
}

func TestMutualTLS(t *testing.T) {
	s := startSecured(t, "127.0.0.1", inAnHour(), true)
	cert, key := s.authority.Issue("client", "", inAnHour())
	content := func(path string) string {
		b, err := os.ReadFile(path)
		relaytest.Must(t, err)
		return string(b)
	}
	oldCert, oldKey := s.authority.Issue("old", "", time.Now().Add(-time.Hour))
	foreignCert, foreignKey := relaytest.NewAuthority(t, t.TempDir(), "other").Issue("foreign", "", inAnHour())
	for name, c := range map[string]relay.ConnectConfig{"TLS": s.first, "wss": s.soft} {
		s.wantRemedy(t, name+" without", c, "certificate required", "the NATS server wants a client certificate: give one with --nats-cert-file and --nats-cert-key-file")
		c.CertFile, c.KeyFile = oldCert, oldKey
		s.wantRemedy(t, name+" expired", c, "remote error: tls: expired certificate", "the NATS server does not accept the client certificate: it has expired")
		c.CertFile, c.KeyFile = foreignCert, foreignKey
		s.wantRemedy(t, name+" foreign", c, "remote error: tls: certificate required", "the NATS server does not accept the client certificate: it is of another authority")
		c.CertFile, c.KeyFile = cert, key
		s.wantRequest(t, c)
		c.CertFile, c.KeyFile, c.Cert, c.Key = "", "", content(cert), content(key)
		s.wantRequest(t, c)
	}
}

// A client certificate that is renewed in its place is used at the next attempt, without a restart.
func TestClientCertificateIsRenewed(t *testing.T) {
	s := startSecured(t, "127.0.0.1", inAnHour(), true)
	c := s.first
	c.NKeySeed = s.App.Seed
	c.CertFile, c.KeyFile = s.authority.Issue("client", "", time.Now().Add(-time.Hour))
	s.Worker(says("hello"), func(w *worker.Config) {
		w.NATS = s.first
		w.NATS.NKeySeed = s.Service.Seed
		w.NATS.CertFile, w.NATS.KeyFile = s.authority.Issue("worker", "", inAnHour())
	})
	client := s.Publisher(func(p *publisher.Config) { p.NATS, p.ConnectWait = c, relaytest.Patience })
	s.log.Wait(t, "cannot connect to NATS, trying again", "does not accept the client certificate")
	s.authority.Issue("client", "", inAnHour())
	send(t, client, "POST", "/").want(t, 200, "hello")
}

func TestServerCertificateHasExpired(t *testing.T) {
	s := startSecured(t, "127.0.0.1", time.Now().Add(-time.Minute), false)
	for name, c := range map[string]relay.ConnectConfig{"TLS": s.first, "wss": s.soft} {
		s.wantRemedy(t, name, c, "certificate has expired", "renew the NATS server's certificate")
	}
}

func TestServerCertificateIsForAnotherHost(t *testing.T) {
	s := startSecured(t, "broker.example", inAnHour(), false)
	for name, c := range map[string]relay.ConnectConfig{"TLS": s.first, "wss": s.soft} {
		const remedy = "use a host name in --nats that the server's certificate names"
		s.wantRemedy(t, name, c, "cannot validate certificate for 127.0.0.1", remedy)
		c.URL = strings.Replace(c.URL, "127.0.0.1", "localhost", 1)
		s.wantRemedy(t, name, c, "certificate is valid for broker.example, not localhost", remedy)
	}
}

// A server without TLS, over TCP and WebSocket.
func TestNoTLS(t *testing.T) {
	t.Parallel()
	s := &secured{log: new(relaytest.Log), dir: t.TempDir()}
	s.Net = relaytest.NewWith(t, s.log, relaytest.Options{Conf: func(c *natsconf.Config) { c.WebSocket = &natsconf.WebSocket{Listen: "127.0.0.1:-1"} }})
	s.wantRequest(t, relay.ConnectConfig{URL: s.Broker.WebSocketURL()})
	ca := relaytest.NewAuthority(t, s.dir, "authority").File
	s.wantRemedy(t, "TLS first", relay.ConnectConfig{URL: s.URL, TLSFirst: true, CAFile: ca}, "take --nats-tls-first away")
	s.wantRemedy(t, "wanted", relay.ConnectConfig{URL: strings.Replace(s.URL, "nats:", "tls:", 1), CAFile: ca}, "the NATS server offers no TLS")
	s.wantRemedy(t, "wss", relay.ConnectConfig{URL: strings.Replace(s.Broker.WebSocketURL(), "ws:", "wss:", 1), CAFile: ca}, "first record does not look like a TLS handshake", "correct the port or scheme of --nats")
	stranger := relay.ConnectConfig{URL: s.URL}
	s.App = relaytest.NewUser(t)
	s.wantRemedy(t, "stranger", stranger, "Authorization Violation", "the NATS server does not know this user", "obo init", "newest kit and restart it")
}
