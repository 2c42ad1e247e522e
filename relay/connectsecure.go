package relay

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// secure adds who we are and whom we believe.
func (c ConnectConfig) secure(opts []nats.Option, proxied bool) ([]nats.Option, error) {
	if c.NKeySeed != "" {
		kp, err := nkeys.FromSeed([]byte(c.NKeySeed))
		if err != nil {
			return nil, err
		}
		public, err := kp.PublicKey()
		if err != nil {
			return nil, err
		}
		opts = append(opts, nats.Nkey(public, kp.Sign))
	}
	if c.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(c.CredsFile))
	}
	if c.Creds != "" {
		opts = append(opts, nats.UserCredentialBytes([]byte(c.Creds)))
	}
	var roots nats.RootCAsHandler
	if c.CAFile+c.CA != "" && !proxied { // the door has it
		roots = c.roots
	}
	var certificate nats.TLSCertHandler
	if c.CertFile+c.Cert != "" {
		certificate = c.certificate
	}
	if roots != nil || certificate != nil {
		opts = append(opts, nats.ClientTLSConfig(certificate, roots))
	}
	if c.TLSFirst {
		opts = append(opts, nats.TLSHandshakeFirst())
	}
	return opts, nil
}

// roots are the authorities that the server's certificate may come from.
func (c ConnectConfig) roots() (*x509.CertPool, error) {
	pem, err := c.pem(c.CA, c.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New(strings.TrimSpace(c.CAFile + " holds no certificate in PEM"))
	}
	return pool, nil
}

// certificate is what a server with mutual TLS wants to see.
func (c ConnectConfig) certificate() (tls.Certificate, error) {
	cert, err := c.pem(c.Cert, c.CertFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key := []byte(c.Key)
	if c.KeyFile != "" {
		if key, err = ReadSecretFile(c.KeyFile); err != nil {
			return tls.Certificate{}, err
		}
	}
	return tls.X509KeyPair(cert, key)
}

func (ConnectConfig) pem(content, file string) ([]byte, error) {
	if file == "" {
		return []byte(content), nil
	}
	return os.ReadFile(file)
}
