package setup

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

// Config says what a relay consists of. On a directory that has been set up before it is added to what is there: apps and
// services join the earlier ones, and an empty field keeps its earlier value.
type Config struct {
	Dir string `json:"-"` // where the files go; made if missing. Required.

	Apps     []App    `json:"apps"`
	Services []string `json:"services"`

	NATSURL       string `json:"nats"`                    // how the sides reach the server. Defaults to "nats://127.0.0.1:4222"
	Listen        string `json:"listen"`                  // where the server listens. Defaults to the URL's port, on loopback if the URL is
	WebSocket     string `json:"websocket"`               // where it listens for WebSockets. Defaults to none, or a ws URL's port
	TLSCertFile   string `json:"tls_cert_file"`           // the server's certificate and key, PEM. Default to none
	TLSKeyFile    string `json:"tls_key_file"`            //
	ClientCAFile  string `json:"client_ca_file,omitzero"` // authority of the certificates that clients must show. Defaults to none
	CAFile        string `json:"ca_file"`                 // authority of the certificate, for the nats CLI. Defaults to the system's
	SubjectPrefix string `json:"subject_prefix"`          // Defaults to none

	Audit bool `json:"audit,omitzero"` // a stream for the services' audit records, and its reader. Defaults to none

	before *Config // what the directory remembers; nil if it is new
}

// App is an app and the services that it may call.
type App struct {
	Name  string   `json:"name"`
	Calls []string `json:"calls,omitempty"` // Defaults to all
}

// recordFile remembers the Config of earlier runs.
const recordFile = "setup.json"

// reserved are directories of the layout that are no side's.
var reserved = []string{"inspector", "system", "auditor", "nats", storeDir}

// storeDir is where the NATS server keeps the audit records.
const storeDir = "jetstream"

// Read returns what a directory is set up for.
func Read(dir string) (Config, error) {
	c, err := Config{Dir: dir}.merged()
	if err == nil && len(c.Apps)+len(c.Services) == 0 {
		err = fmt.Errorf("setup: %s has not been set up: run obo init --dir %s", dir, dir)
	}
	return c, err
}

// merged is c on top of what the directory remembers.
func (c Config) merged() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("setup: no directory")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("setup: %w", err)
	}
	c.Dir = dir
	data, err := os.ReadFile(c.path(recordFile))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(c.path("nats-server.conf")); err == nil {
			return c, fmt.Errorf("setup: %s has a nats-server.conf that was not made here (there is no %s): choose another directory, or move it away", dir, recordFile)
		}
		return c.withDefaults(), nil
	}
	if err != nil {
		return c, fmt.Errorf("setup: %w", err)
	}
	var old Config
	if err := json.Unmarshal(data, &old); err != nil {
		return c, fmt.Errorf("setup: %s: %w", c.path(recordFile), err)
	}
	return c.over(old).withDefaults(), nil
}

// had tells whether an app or service was there before.
func (c Config) had(role relay.Role, name string) bool {
	switch {
	case c.before == nil:
		return false
	case role == relay.RoleService:
		return slices.Contains(c.before.Services, name)
	}
	return slices.ContainsFunc(c.before.Apps, func(a App) bool { return a.Name == name })
}

// over adds to what was there.
func (c Config) over(old Config) Config {
	before := old
	c.before = &before
	apps := slices.Clone(old.Apps)
	for _, a := range c.Apps {
		i := slices.IndexFunc(apps, func(o App) bool { return o.Name == a.Name })
		switch {
		case i < 0:
			apps = append(apps, a)
		case len(a.Calls) > 0:
			apps[i] = a
		}
	}
	c.Apps = apps
	services := slices.Clone(old.Services)
	for _, s := range c.Services {
		if !slices.Contains(services, s) {
			services = append(services, s)
		}
	}
	c.Services = services
	c.Audit = c.Audit || old.Audit
	if c.NATSURL != "" && oneSpelling(c.NATSURL) != oneSpelling(old.NATSURL) {
		followed := Config{NATSURL: old.NATSURL}.withDefaults() // what was asked for stays
		if old.Listen == followed.Listen {
			old.Listen = ""
		}
		if old.WebSocket == followed.WebSocket || brokerapp.Is(c.NATSURL) {
			old.WebSocket = ""
		}
	}
	for _, f := range []struct{ mine, theirs *string }{
		{&c.NATSURL, &old.NATSURL}, {&c.Listen, &old.Listen}, {&c.WebSocket, &old.WebSocket},
		{&c.TLSCertFile, &old.TLSCertFile}, {&c.TLSKeyFile, &old.TLSKeyFile}, {&c.CAFile, &old.CAFile}, {&c.ClientCAFile, &old.ClientCAFile},
		{&c.SubjectPrefix, &old.SubjectPrefix},
	} {
		*f.mine = cmp.Or(*f.mine, *f.theirs)
	}
	return c
}

// withDefaults lets the server listen where the URL leads.
func (c Config) withDefaults() Config {
	c.NATSURL = cmp.Or(oneSpelling(c.NATSURL), "nats://127.0.0.1:4222")
	u, err := url.Parse(c.NATSURL)
	if err != nil {
		return c // validate reports it
	}
	if brokerapp.Is(c.NATSURL) { // it takes the app's port for WebSockets, and is reached there only
		c.Listen = cmp.Or(c.Listen, "127.0.0.1:4222")
		return c.withPaths()
	}
	host := "0.0.0.0"
	if relay.Loopback(u.Hostname()) {
		host = "127.0.0.1"
		if net.ParseIP(u.Hostname()) != nil {
			host = u.Hostname() // ::1, say, which is not the same place
		}
	}
	switch u.Scheme {
	case "ws", "wss":
		c.Listen = cmp.Or(c.Listen, "127.0.0.1:4222")
		if u.Scheme == "ws" || host != "0.0.0.0" { // a proxy in front of a wss URL has a port of its own
			c.WebSocket = cmp.Or(c.WebSocket, net.JoinHostPort(host, cmp.Or(u.Port(), map[string]string{"ws": "80", "wss": "443"}[u.Scheme])))
		}
		c.WebSocket = cmp.Or(c.WebSocket, "0.0.0.0:8080")
	default:
		c.Listen = cmp.Or(c.Listen, net.JoinHostPort(host, cmp.Or(u.Port(), "4222")))
	}
	return c.withPaths()
}

// oneSpelling is an address without spaces around it and with its scheme in lower case.
func oneSpelling(address string) string {
	address = strings.TrimSpace(address)
	scheme, rest, ok := strings.Cut(address, ":")
	if !ok {
		return address
	}
	return strings.ToLower(scheme) + ":" + rest
}

// withPaths makes paths absolute: the server may be started elsewhere.
func (c Config) withPaths() Config {
	for _, file := range []*string{&c.TLSCertFile, &c.TLSKeyFile, &c.CAFile, &c.ClientCAFile} {
		if abs, err := filepath.Abs(*file); err == nil && *file != "" {
			*file = abs
		}
	}
	return c
}

// validate reports all faults at once that natsconf does not see.
func (c Config) validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("setup: "+format, args...))
	}
	check := func(role relay.Role, name string) {
		if !relay.ValidName(name) {
			fault("%s %q: want 1 to 63 characters of a-z, 0-9 and -", role, name)
		}
		if slices.Contains(reserved, name) {
			fault("%s %q: a directory of that name holds something else: choose another name", role, name)
		}
	}
	if len(c.Apps) == 0 {
		fault("no app: name one that calls the services (--app)")
	}
	if len(c.Services) == 0 {
		fault("no service: name one that the apps call (--service)")
	}
	for _, s := range c.Services {
		check(relay.RoleService, s)
		if len(c.Apps) > 0 && len(c.callers(s)) == 0 {
			fault("service %q: no app calls it: add it to an app's (--app NAME=SERVICE,…)", s)
		}
	}
	for _, a := range c.Apps {
		check(relay.RoleApp, a.Name)
		for _, s := range a.Calls {
			if !slices.Contains(c.Services, s) {
				fault("app %q calls %q, which is no service here: add --service %s", a.Name, s, s)
			}
		}
	}
	u, err := url.Parse(c.NATSURL)
	switch {
	case brokerapp.Is(c.NATSURL):
		if err := brokerapp.CheckAddress(c.NATSURL); err != nil {
			fault("the NATS server: %w", err)
		}
		if c.TLSCertFile != "" || c.WebSocket != "" {
			fault("a broker app has the platform's proxy in front, which ends TLS and passes WebSockets on: leave out the certificate and the WebSocket's address")
		}
	case err != nil || u.Host == "" || strings.Contains(c.NATSURL, ","):
		fault("the NATS URL is not one URL: want for example nats://127.0.0.1:4222")
	case u.User != nil:
		fault("the NATS URL holds a user name or password: the kits hold keys instead, leave it out")
	case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
		fault("the NATS URL has scheme %q: want nats, tls, ws or wss, or app:NAME", u.Scheme)
	case u.Scheme == "ws" && c.TLSCertFile != "":
		fault("a server with a certificate takes WebSockets with TLS only: want a wss URL")
	case u.Scheme == "tls" && c.TLSCertFile == "":
		fault("a tls URL needs the server's certificate and its key")
	}
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		fault("a certificate and its key belong together: give both --tls-cert-file and --tls-key-file")
	}
	if c.ClientCAFile != "" && c.TLSCertFile == "" {
		fault("client certificates need TLS: give the server's certificate and its key too")
	}
	return errors.Join(faults...)
}

// Callees are the services that an app may call.
func (c Config) Callees(a App) []string {
	if len(a.Calls) == 0 {
		return c.Services
	}
	return a.Calls
}

// callers are the apps that may call a service.
func (c Config) callers(service string) []string {
	var out []string
	for _, a := range c.Apps {
		if slices.Contains(c.Callees(a), service) {
			out = append(out, a.Name)
		}
	}
	return out
}

func (c Config) path(parts ...string) string {
	return filepath.Join(append([]string{c.Dir}, parts...)...)
}

// CLIURL is the server's for the nats CLI, which cannot pass a proxy that wants headers: beside a WebSocket for the sides
// it uses the plain listener, or where obo tunnel listens.
func (c Config) CLIURL() string {
	if !strings.HasPrefix(c.NATSURL, "ws") && !brokerapp.Is(c.NATSURL) {
		return c.NATSURL
	}
	if c.TLSCertFile != "" {
		return "tls://" + c.Listen
	}
	return "nats://" + c.Listen
}

// InspectorSeed is the path of the seed of the nats CLI's user who looks on.
func (c Config) InspectorSeed() string { return c.path("inspector", "nats.nk") }

// auditorSeed is the path of the seed of the one who reads the audit records, empty if none are kept.
func (c Config) auditorSeed() string {
	if !c.Audit {
		return ""
	}
	return c.path("auditor", "nats.nk")
}
