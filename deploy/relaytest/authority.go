package relaytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues certificates for tests.
type Authority struct {
	File string // its own certificate, PEM

	tb   testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes one; its files and those of its certificates are in the directory.
func NewAuthority(tb testing.TB, dir, name string) *Authority {
	tb.Helper()
	a := &Authority{tb: tb, dir: dir, key: newKey(tb)}
	a.cert = &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte(name),
	}
	a.File = a.issue(name, a.cert, a.key, time.Now().Add(time.Hour))
	return a
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Must(tb, err)
	return key
}

// Issue writes NAME.pem and NAME-key.pem: a certificate for a host, or for a client if there is none, good until then.
func (a *Authority) Issue(name, host string, until time.Time) (certFile, keyFile string) {
	a.tb.Helper()
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	switch ip := net.ParseIP(host); {
	case host == "":
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case ip != nil:
		c.IPAddresses = []net.IP{ip}
	default:
		c.DNSNames = []string{host}
	}
	key := newKey(a.tb)
	certFile = a.issue(name, c, key, until)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	Must(a.tb, err)
	return certFile, a.write(name+"-key.pem", "PRIVATE KEY", private)
}

func (a *Authority) issue(name string, c *x509.Certificate, key *ecdsa.PrivateKey, until time.Time) string {
	a.tb.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	Must(a.tb, err)
	c.SerialNumber, c.NotBefore, c.NotAfter = serial, until.Add(-24*time.Hour), until
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, key.Public(), a.key)
	Must(a.tb, err)
	return a.write(name+".pem", "CERTIFICATE", der)
}

func (a *Authority) write(name, kind string, der []byte) string {
	a.tb.Helper()
	path := filepath.Join(a.dir, name)
	Must(a.tb, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}
