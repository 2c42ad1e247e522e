package dev

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/obo-relay/obo-relay/relay"
)

// Service is a middleware app that the developer runs.
type Service struct {
	Name string // as the UI app calls it
	URL  string // where it listens
}

// ParseService reads NAME=URL.
func ParseService(text string) (Service, error) {
	name, address, ok := strings.Cut(text, "=")
	if !ok || !relay.ValidName(name) || address == "" {
		return Service{}, fmt.Errorf("--service %q: want NAME=URL, for example middleware=http://127.0.0.1:8000", text)
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return Service{}, fmt.Errorf("--service %s: want the middleware app's URL, for example %[1]s=http://127.0.0.1:8000", name)
	}
	if u.Scheme == "http" && !relay.Loopback(u.Hostname()) {
		return Service{}, fmt.Errorf("--service %s: over http:// your token would cross the network in clear text: want an app on this machine, for example %[1]s=http://127.0.0.1:8000, or https://", name)
	}
	return Service{name, address}, nil
}

// Tokens hands out the access token of one person. It is asked anew for each request, and may keep what it has while that
// is fresh.
type Tokens interface {
	Token(context.Context) (relay.Token, error)
}

// Config configures Run.
type Config struct {
	Services []Service // at least one
	Tokens   Tokens    // Required.
	// Workspace is the address of the workspace whose person the tokens are of. Required.
	Workspace   string
	WorkspaceID string // becomes part of X-Forwarded-User. Defaults to the one that an Azure address holds, or none
	Sandbox     bool   // the workspace is a stand-in

	App     string   // the UI app's name. Defaults to "ui"
	Command []string // the UI app's program and arguments. None: the front proxy stands before what the developer starts
	Environ []string // what the command's environment is made from. Defaults to none
	Listen  string   // the front proxy's address, loopback only. Defaults to "127.0.0.1:8001"
	AppPort int      // where the UI app listens. Defaults to a free port

	Out io.Writer    // where it is said what runs where. Required.
	Log *slog.Logger // Defaults to slog.Default()
}

// defaultListen is where databricks apps run-local has its proxy too.
const defaultListen = "127.0.0.1:8001"

func (c Config) withDefaults() Config {
	c.App = cmp.Or(c.App, "ui")
	c.Listen = cmp.Or(c.Listen, defaultListen)
	c.Log = cmp.Or(c.Log, slog.Default())
	c.WorkspaceID = cmp.Or(c.WorkspaceID, azureWorkspaceID(c.Workspace))
	return c
}

// azureWorkspaceID is the number in https://adb-1234567890123456.7.azuredatabricks.net.
func azureWorkspaceID(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	rest, ok := strings.CutPrefix(cmp.Or(u.Hostname(), u.Path), "adb-")
	id, _, dot := strings.Cut(rest, ".")
	if !ok || !dot || strings.Trim(id, "0123456789") != "" {
		return ""
	}
	return id
}

// Validate reports all faults at once that need no look at the person or the workspace. Run calls it too.
func (c Config) Validate() error {
	c = c.withDefaults()
	var faults []error
	if len(c.Services) == 0 {
		faults = append(faults, errors.New("no middleware app: name it and say where it listens, for example --service middleware=http://127.0.0.1:8000"))
	}
	seen := map[string]bool{}
	for _, s := range c.Services {
		if s.Name != "" && seen[s.Name] {
			faults = append(faults, fmt.Errorf("--service %s is given twice: keep one", s.Name))
		}
		seen[s.Name] = true
	}
	if !relay.ValidName(c.App) {
		faults = append(faults, fmt.Errorf("--app %q: want 1 to 63 characters of a-z, 0-9 and -", c.App))
	}
	if c.AppPort < 0 || c.AppPort > 65535 {
		faults = append(faults, fmt.Errorf("--app-port %d: want a port from 1 to 65535, or leave it out for a free one", c.AppPort))
	}
	if _, port, err := net.SplitHostPort(c.Listen); err == nil && c.AppPort != 0 && port == strconv.Itoa(c.AppPort) {
		faults = append(faults, fmt.Errorf("--app-port %d: the front proxy listens there (--listen): name another", c.AppPort))
	}
	if len(c.Command) == 0 && c.AppPort == 0 {
		faults = append(faults, errors.New("no UI app: put its command after --, or say with --app-port where it listens"))
	}
	return errors.Join(faults...)
}
