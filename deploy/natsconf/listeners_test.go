package natsconf_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
)

func TestWebSocketListener(t *testing.T) {
	t.Parallel()
	f := start(t, func(c *natsconf.Config) { c.WebSocket = &natsconf.WebSocket{Listen: "127.0.0.1:-1"} })
	u := f.users[ui]
	nc, err := nats.Connect(f.server.WebsocketURL(), nats.Nkey(u.public, u.pair.Sign))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := publish(t, nc, nats.NewMsg("obo.v1.req.middleware.i1.ui")); err != nil {
		t.Error(err)
	}
}

// A path keeps its letters and spaces of any script, as the server reads it.
func TestPathsOfAnyScript(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "r\u00e9seau\u202fobo\u00a0\u2009#$x 'y'")
	f := start(t, func(c *natsconf.Config) { c.StoreDir = dir })
	if got := f.server.JetStreamConfig(); got == nil || got.StoreDir != filepath.Join(dir, "jetstream") {
		t.Errorf("%+v, want it in %q", got, dir)
	}
}

func TestTLSListeners(t *testing.T) {
	t.Parallel()
	pair, ca := certificate(t)
	f := start(t, func(c *natsconf.Config) {
		c.TLS = &pair
		c.WebSocket = &natsconf.WebSocket{Listen: "127.0.0.1:-1", TLS: &pair}
	})
	u := f.users[ui]
	for name, opts := range map[string][]nats.Option{
		f.server.ClientURL():    {nats.TLSHandshakeFirst()},
		f.server.WebsocketURL(): nil,
	} {
		nc, err := nats.Connect(name, append(opts, nats.RootCAs(ca), nats.Nkey(u.public, u.pair.Sign))...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := publish(t, nc, nats.NewMsg("obo.v1.req.middleware.i1.ui")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		nc.Close()
	}
	// The server speaks first only inside TLS, so a client that waits for it in clear gets nothing.
	nc, err := nats.Connect(f.server.ClientURL(), nats.RootCAs(ca), nats.Timeout(300*time.Millisecond), nats.Nkey(u.public, u.pair.Sign))
	if err == nil {
		nc.Close()
		t.Error("a client came in without the TLS handshake first")
	}
}

// certificate is a self-signed one for 127.0.0.1, which is its own CA.
func certificate(t *testing.T) (natsconf.TLS, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pair := natsconf.TLS{CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	for path, block := range map[string]*pem.Block{
		pair.CertFile: {Type: "CERTIFICATE", Bytes: cert},
		pair.KeyFile:  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return pair, pair.CertFile
}
