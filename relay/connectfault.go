package relay

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// remedyAttr is the attribute of a log line; none where there is no remedy.
func remedyAttr(text string) []any {
	if text == "" {
		return nil
	}
	return []any{"remedy", text}
}

// Remedy is what to do about a connection that cannot be made.
func (c ConnectConfig) Remedy(err error) string {
	if text := c.remedy(err); text != "" {
		return text
	}
	return "start the NATS server (obo-broker), or correct --nats (OBO_NATS); where only HTTPS may leave, use wss:// or app:NAME. obo doctor looks closer"
}

// remedy is what to do about a connection that cannot be made; empty where the error says it.
func (c ConnectConfig) remedy(err error) string {
	text := err.Error()
	says := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "use a host name in --nats that the server's certificate names, or give the server a certificate for this one"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "renew the NATS server's certificate; if it is still good this machine's clock is off"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if c.CAFile+c.CA == "" {
			return "name the authority of the NATS server's certificate with --nats-ca-file, as the system does not know it"
		}
		return "the NATS server's certificate is of another authority than --nats-ca-file names: give that one, or correct --nats"
	}
	switch {
	case says("remote error: tls: certificate required") && c.CertFile+c.Cert != "": // TLS does not show what the server would not take
		return "the NATS server does not accept the client certificate: it is of another authority than the server's ca_file; correct --nats-cert-file"
	case says("remote error: tls: certificate required"):
		return "the NATS server wants a client certificate: give one with --nats-cert-file and --nats-cert-key-file"
	case says("remote error: tls: expired certificate", "remote error: tls: bad certificate", "remote error: tls: unknown certificate authority"):
		return "the NATS server does not accept the client certificate: it has expired, or is not for clients; renew --nats-cert-file"
	case says("first record does not look like a TLS handshake"):
		return "the NATS server speaks no TLS on this port, or not first: take --nats-tls-first away, or correct the port or scheme of --nats"
	case errors.Is(err, nats.ErrSecureConnWanted):
		return "the NATS server offers no TLS: correct --nats, or take the tls:// and the --nats-ca and --nats-cert flags away"
	case !c.TLSFirst && !strings.HasPrefix(c.URL, "ws") && says("i/o timeout", "EOF", "connection reset"):
		return "if the NATS server has handshake_first, set --nats-tls-first"
	}
	return c.userRemedy(err)
}

// userRemedy is what to do about a NATS user that the server does not let in, or not any longer.
func (c ConnectConfig) userRemedy(err error) string {
	switch {
	case errors.Is(err, nats.ErrAuthExpired):
		return "the JWT of the NATS user has expired: put a new one into --creds-file, which is read at each attempt"
	case errors.Is(err, nats.ErrAuthRevoked):
		return "the JWT of the NATS user is revoked: put another one into --creds-file, which is read at each attempt"
	case errors.Is(err, nats.ErrAuthorization) && c.CredsFile+c.Creds != "":
		return "the NATS server does not accept these credentials: they have expired, are revoked, or are of another operator; put others into --creds-file, which is read at each attempt"
	case errors.Is(err, nats.ErrAuthorization):
		return "the NATS server does not know this user: put its public key into the server's configuration (obo init writes it) and reload the server, or give this side its newest kit and restart it"
	}
	return ""
}

// tellEvery is how often the same is said, of a connection that there still is not or a subject that is still denied.
const tellEvery = time.Minute

// tellAgain reports whether it is time to tell what was told then.
func tellAgain(told map[string]time.Time, what string) bool {
	maps.DeleteFunc(told, func(_ string, at time.Time) bool { return time.Since(at) >= tellEvery })
	_, ok := told[what]
	return !ok
}

// tellFailures logs why there is no connection and what to do. What goes wrong with a broker app says that by itself.
func (c ConnectConfig) tellFailures(proxied bool) nats.ConnErrHandler {
	told := map[string]time.Time{} // several servers have a reason each. nats.go calls its handlers one after the other
	return func(_ *nats.Conn, err error) {
		if errors.Is(err, nats.ErrNoServers) { // the sum of a first attempt; the next one tells the reason
			return
		}
		why := reason(err)
		if !tellAgain(told, why) {
			return
		}
		told[why] = time.Now()
		remedy := c.remedy(err)
		if !proxied {
			remedy = c.Remedy(err)
		}
		c.Log.Warn("cannot connect to NATS, trying again", append([]any{"url", redactURLs(c.URL), "error", err}, remedyAttr(remedy)...)...)
	}
}

// reason leaves out the port of this end, which is another at each attempt.
func reason(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return fmt.Sprint(op.Op, op.Addr, op.Err)
	}
	return err.Error()
}
