package natsconf

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/obo-relay/obo-relay/relay"
)

// validate reports every fault at once.
func (c Config) validate() error {
	var v faults
	v.address("Listen", c.Listen)
	v.tls("TLS", c.TLS)
	if c.WebSocket != nil {
		v.address("WebSocket.Listen", c.WebSocket.Listen)
		v.tls("WebSocket.TLS", c.WebSocket.TLS)
	}
	if _, err := relay.NewSubjects(c.SubjectPrefix); err != nil {
		v.addf("SubjectPrefix: %w", err)
	}
	// A prefix such as _INBOX.inspector would put every subject of the relay under an inbox.
	if strings.HasPrefix(c.SubjectPrefix, "_") {
		v.addf("SubjectPrefix %q: must not begin with _, which inboxes do", c.SubjectPrefix)
	}
	if c.MaxConnections < 0 {
		v.addf("MaxConnections %d: want a positive number", c.MaxConnections)
	}
	v.text("StoreDir", c.StoreDir)
	if c.audit() && c.StoreDir == "" {
		v.addf("AuditorNKeys: a stream needs a StoreDir")
	}
	v.names(c)
	v.calls(c)
	v.nkeys(c)
	return errors.Join(v.list...)
}

type faults struct{ list []error }

func (v *faults) addf(format string, args ...any) {
	v.list = append(v.list, fmt.Errorf("natsconf: "+format, args...))
}

func (v *faults) address(field, addr string) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		v.addf("%s %q: want host:port", field, addr)
		return
	}
	if n, err := strconv.Atoi(port); err != nil || n < -1 || n == 0 || n > 65535 {
		v.addf("%s %q: want a port from 1 to 65535, or -1 for a free one", field, addr)
	}
	v.text(field, addr)
}

func (v *faults) tls(field string, t *TLS) {
	if t == nil {
		return
	}
	if t.CertFile == "" || t.KeyFile == "" {
		v.addf("%s: want both CertFile and KeyFile", field)
	}
	v.text(field+".CertFile", t.CertFile)
	v.text(field+".KeyFile", t.KeyFile)
	v.text(field+".ClientCAFile", t.ClientCAFile)
}

// text refuses what would leave a quoted string of the configuration language, or be changed in one.
func (v *faults) text(field, s string) {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '"' || r == '\\' }) {
		v.addf("%s %q: quotes, backslashes and control characters are not allowed", field, s)
	}
}

func (v *faults) names(c Config) {
	check := func(kind string, names []string) {
		for i, n := range names {
			if !relay.ValidName(n) {
				v.addf("%s name %q: want a DNS label, 1 to 63 of [a-z0-9-], no hyphen at either end", kind, n)
			}
			if slices.Contains(names[:i], n) {
				v.addf("%s %q is listed twice", kind, n)
			}
		}
	}
	var apps, services []string
	for _, a := range c.Apps {
		apps = append(apps, a.Name)
	}
	for _, s := range c.Services {
		services = append(services, s.Name)
	}
	check("app", apps)
	check("service", services)
}

// calls wants each app and service to name each other. An app that calls nothing is refused too: its publish
// allow-list would be empty, which nats-server would not take for "nothing".
func (v *faults) calls(c Config) {
	type pair struct{ app, service string }
	wanted, granted := map[pair]bool{}, map[pair]bool{}
	for _, a := range c.Apps {
		if len(a.Calls) == 0 {
			v.addf("app %q calls no service: give it one or leave it out", a.Name)
		}
		for _, s := range a.Calls {
			wanted[pair{a.Name, s}] = true
		}
	}
	for _, s := range c.Services {
		for _, a := range s.Apps {
			granted[pair{a, s.Name}] = true
			if !wanted[pair{a, s.Name}] {
				v.addf("service %q admits app %q, but no such app calls it: add %q to the app's Calls", s.Name, a, s.Name)
			}
		}
	}
	for _, a := range c.Apps {
		for _, s := range a.Calls {
			if !granted[pair{a.Name, s}] {
				v.addf("app %q calls service %q, but no such service admits it: add %q to the service's Apps", a.Name, s, a.Name)
			}
		}
	}
}

// nkeys wants public user keys, each once: with one key for two users nats-server would keep either's permissions.
func (v *faults) nkeys(c Config) {
	owner := map[string]string{}
	check := func(who string, required bool, keys []string) {
		if required && len(keys) == 0 {
			v.addf("%s has no nkey", who)
		}
		for _, k := range keys {
			switch {
			case strings.HasPrefix(k, "SU"):
				// Not quoted: it is a secret.
				v.addf("%s: the nkey is a seed, which is private: give its public key, U...", who)
			case !nkeys.IsValidPublicUserKey(k):
				v.addf("%s: nkey %q is no public user nkey, U...", who, k)
			case owner[k] != "":
				v.addf("%s: nkey %s already belongs to %s", who, k, owner[k])
			default:
				owner[k] = who
			}
		}
	}
	for _, a := range c.Apps {
		check(fmt.Sprintf("app %q", a.Name), true, a.NKeys)
	}
	for _, s := range c.Services {
		check(fmt.Sprintf("service %q", s.Name), true, s.NKeys)
	}
	check("the inspector", false, c.InspectorNKeys)
	check("the system user", false, c.SystemNKeys)
	check("the auditor", false, c.AuditorNKeys)
}
