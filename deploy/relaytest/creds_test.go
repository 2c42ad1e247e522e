package relaytest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// operatorMode is a server that believes JWTs of an operator instead of a list of keys.
type operatorMode struct {
	*relaytest.Net
	t       *testing.T
	log     *relaytest.Log
	account nkeys.KeyPair
	rules   map[string]*server.Permissions // of the generated configuration, by public key
}

func keyPair(t *testing.T, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := create()
	relaytest.Must(t, err)
	public, err := pair.PublicKey()
	relaytest.Must(t, err)
	return pair, public
}

func startOperator(t *testing.T) *operatorMode {
	t.Helper()
	t.Parallel()
	o := &operatorMode{t: t, log: new(relaytest.Log), rules: map[string]*server.Permissions{}}
	operator, operatorKey := keyPair(t, nkeys.CreateOperator)
	_, systemKey := keyPair(t, nkeys.CreateAccount)
	var accountKey string
	o.account, accountKey = keyPair(t, nkeys.CreateAccount)
	claims := jwt.NewOperatorClaims(operatorKey)
	claims.SystemAccount = systemKey
	root, err := claims.Encode(operator)
	relaytest.Must(t, err)
	preload := ""
	for _, key := range []string{systemKey, accountKey} {
		account, err := jwt.NewAccountClaims(key).Encode(operator)
		relaytest.Must(t, err)
		preload += fmt.Sprintf("%s: %s\n", key, account)
	}
	o.Net = relaytest.NewWith(t, o.log, relaytest.Options{ServerConf: func(generated string) string {
		var opts server.Options
		relaytest.Must(t, opts.ProcessConfigString(generated))
		for _, u := range opts.Nkeys {
			o.rules[u.Nkey] = u.Permissions
		}
		return fmt.Sprintf("listen: \"127.0.0.1:-1\"\noperator: %s\nresolver: MEMORY\nresolver_preload: {\n%s}\n", root, preload)
	}})
	return o
}

// creds are a user's, with the permissions that the generated configuration has for it.
func (o *operatorMode) creds(u relaytest.User, expires time.Time) string {
	o.t.Helper()
	claims := jwt.NewUserClaims(u.Public)
	claims.Expires = expires.Unix()
	p := o.rules[u.Public]
	claims.Pub.Allow.Add(p.Publish.Allow...)
	claims.Sub.Allow.Add(p.Subscribe.Allow...)
	claims.Sub.Deny.Add(p.Subscribe.Deny...)
	token, err := claims.Encode(o.account)
	relaytest.Must(o.t, err)
	text, err := jwt.FormatUserConfig(token, []byte(u.Seed))
	relaytest.Must(o.t, err)
	return string(text)
}

func (o *operatorMode) file(content string) string {
	o.t.Helper()
	path := filepath.Join(o.t.TempDir(), "user.creds")
	relaytest.Must(o.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// Users with JWTs and the permissions of the generated configuration: a request goes through, with credentials from a file
// and from the environment, and what is not permitted is refused.
func TestCredentials(t *testing.T) {
	o := startOperator(t)
	app, service := o.creds(o.App, inAnHour()), o.creds(o.Service, inAnHour())
	o.Worker(says("hello"), func(c *worker.Config) { c.NATS = relay.ConnectConfig{URL: o.URL, CredsFile: o.file(service)} })
	for _, c := range []relay.ConnectConfig{{URL: o.URL, CredsFile: o.file(app)}, {URL: o.URL, Creds: app}} {
		client := o.Publisher(func(p *publisher.Config) { p.NATS, p.ConnectWait = c, relaytest.Patience })
		send(t, client, "POST", "/").want(t, 200, "hello")
	}
	swapped := o.Publisher(func(p *publisher.Config) { p.NATS = relay.ConnectConfig{URL: o.URL, Creds: service} })
	send(t, swapped, "POST", "/").wantCode(t, relay.CodeNATSDenied)
	o.log.Wait(t, "the NATS server denies this user a subject", "obo.v1.announce.middleware")
}

// Credentials that have expired are named, and a file that is replaced is enough: no restart, no lost request.
func TestCredentialsAreReplaced(t *testing.T) {
	o := startOperator(t)
	o.Worker(says("hello"), func(c *worker.Config) {
		c.NATS = relay.ConnectConfig{URL: o.URL, Creds: o.creds(o.Service, inAnHour())}
	})
	file := o.file(o.creds(o.App, time.Now().Add(-time.Minute)))
	client := o.Publisher(func(p *publisher.Config) {
		p.NATS, p.ConnectWait = relay.ConnectConfig{URL: o.URL, CredsFile: file}, relaytest.Patience
	})
	o.log.Wait(t, "cannot connect to NATS, trying again", "the NATS server does not accept these credentials: they have expired")
	relaytest.Must(t, os.WriteFile(file, []byte(o.creds(o.App, inAnHour())), 0o600))
	send(t, client, "POST", "/").want(t, 200, "hello")
	if text := o.log.String(); strings.Contains(text, o.App.Seed) || strings.Contains(text, "eyJ0eXAiOiJKV1Qi") {
		t.Error("credentials are in the log")
	}
}
