package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

// initCommand makes the files of a relay.
type initCommand struct {
	Dir           string   `required:"" placeholder:"DIR" help:"Where the files go. A directory that has been set up before is added to; its keys stay."`
	App           []string `sep:"none" placeholder:"NAME[=SERVICE,…]" help:"An app that calls services: all of them, or those named. May be repeated."`
	Service       []string `placeholder:"NAME" help:"A service that apps call. May be repeated."`
	NATS          string   `name:"nats" placeholder:"URL" help:"How both sides reach the NATS server. Default: nats://127.0.0.1:4222."`
	Listen        string   `placeholder:"HOST:PORT" help:"Where the NATS server listens. Default: the URL's port."`
	Websocket     string   `placeholder:"HOST:PORT" help:"Where it listens for NATS over WebSocket. Default: nowhere, or a ws URL's port."`
	TLSCertFile   string   `name:"tls-cert-file" placeholder:"FILE" help:"The NATS server's certificate, PEM."`
	TLSKeyFile    string   `name:"tls-key-file" placeholder:"FILE" help:"Its private key, PEM."`
	TLSClientCA   string   `name:"tls-client-ca-file" placeholder:"FILE" help:"Authority of the certificates that clients must show, PEM. Default: they show none."`
	TLSCAFile     string   `name:"tls-ca-file" placeholder:"FILE" help:"Its certificate authority, PEM, for the nats CLI. Default: the system's."`
	Audit         bool     `help:"Let the services keep audit records in a NATS stream, and make an auditor who reads it. Stays on."`
	SubjectPrefix string   `placeholder:"PREFIX" help:"Put before obo.v1 in every subject, so that several environments share a server."`
	Databricks    bool     `help:"Print the commands of the Databricks CLI that put each side's kit into a secret scope. The NATS server is then app:obo-broker if nothing else is said."`
	Apply         bool     `help:"Run them."`
	Profile       string   `env:"OBO_PROFILE,DATABRICKS_CONFIG_PROFILE" placeholder:"NAME" help:"Profile of the Databricks CLI for them."`
}

// Run makes the files and says what to run next.
func (c *initCommand) Run(t *terminal) error {
	if c.Apply && !c.Databricks {
		return errors.New("--apply is for --databricks")
	}
	if _, err := setup.Read(c.Dir); err != nil && c.Databricks { // a new one
		c.NATS = cmp.Or(c.NATS, brokerApp)
	}
	cfg := setup.Config{
		Dir: c.Dir, Services: c.Service, NATSURL: c.NATS, Listen: c.Listen, WebSocket: c.Websocket,
		TLSCertFile: c.TLSCertFile, TLSKeyFile: c.TLSKeyFile, CAFile: c.TLSCAFile, ClientCAFile: c.TLSClientCA, SubjectPrefix: c.SubjectPrefix, Audit: c.Audit,
	}
	for _, text := range c.App {
		name, calls, given := strings.Cut(text, "=")
		app := setup.App{Name: name}
		if given {
			app.Calls = strings.Split(calls, ",")
		}
		cfg.Apps = append(cfg.Apps, app)
	}
	result, err := setup.Init(cfg)
	if err != nil {
		return err
	}
	g := guide{result, filepath.Clean(c.Dir), t.stdout}
	if c.Apply {
		g.made()
		return g.apply(t.ctx, databricksCLI{c.Profile})
	}
	g.print(c.Databricks)
	return nil
}

// guide tells what was made and what to run next.
type guide struct {
	setup.Result
	dir string // as it was given, for shorter paths
	w   io.Writer
}

// print says what to do next; on Databricks that is something else.
func (g guide) print(databricks bool) {
	g.made()
	inApp := brokerapp.Is(g.Config.NATSURL)
	if databricks || inApp {
		g.databricks()
	}
	if !inApp {
		g.run()
	}
	g.look()
	g.audit()
}

func (g guide) line(format string, args ...any) { fmt.Fprintf(g.w, format+"\n", args...) }

// path is shown as the directory was given, and safe to paste into a shell.
func (g guide) path(abs string) string {
	rel, err := filepath.Rel(g.Config.Dir, abs)
	if err != nil {
		return quote(abs)
	}
	return quote(filepath.Join(g.dir, rel))
}

func (g guide) made() {
	g.line("%s holds:", g.dir)
	g.line("")
	g.line("  %-20s the NATS server's configuration; no secret", "nats-server.conf")
	for _, s := range g.Sides {
		state := "kept"
		if s.New {
			state = "new"
		}
		g.line("  %-20s %s %s, key %s (%s)", filepath.Base(filepath.Dir(s.KitFile))+"/"+filepath.Base(s.KitFile), s.Role, s.Name, s.Kid, state)
	}
	contexts := natsconf.InspectorContext + " and " + natsconf.SystemContext
	if g.Config.Audit {
		contexts = natsconf.InspectorContext + ", " + natsconf.SystemContext + " and " + natsconf.AuditorContext
	}
	g.line("  %-20s the nats CLI's contexts %s", "nats/context/", contexts)
	g.line("")
	g.line("Each kit is one side's whole configuration and secret: key.json, nats.nk and trust.json in one document.")
}

// run prints one command for each process. The addresses are free for the reader to change.
func (g guide) run() {
	const upstreamPort, routePort = 8000, 9100
	g.line("")
	g.line("Run next, each in a terminal of its own:")
	g.line("")
	g.line("  obo-broker --config %s", g.path(g.ServerConf))
	g.line("  obo sandbox                # a stand-in for the workspace; with a real one give its URL to the workers")
	for i, name := range g.Config.Services {
		s := g.Side(relay.RoleService, name)
		g.line("  obo-worker --kit-file %s --forward http://127.0.0.1:%d --workspace %s%s", g.path(s.KitFile), upstreamPort+i, sandboxURL, g.tls())
	}
	port := routePort
	for _, a := range g.Config.Apps {
		s := g.Side(relay.RoleApp, a.Name)
		routes := ""
		for _, service := range g.Config.Callees(a) {
			routes += fmt.Sprintf(" --route %s=127.0.0.1:%d", service, port)
			port++
		}
		g.line("  obo-publisher --kit-file %s%s%s", g.path(s.KitFile), routes, g.tls())
	}
	g.line("")
	g.line("With the middleware app at port %d, call it as a person:", upstreamPort)
	g.line("")
	first := g.Config.Apps[0]
	g.line("  curl http://127.0.0.1:%d/ -H \"X-Forwarded-Access-Token: $(obo sandbox token alice)\"", routePort)
	g.line("  obo sandbox token alice | obo call --kit-file %s%s %s /", g.path(g.Side(relay.RoleApp, first.Name).KitFile), g.tls(), g.Config.Callees(first)[0])
}

func (g guide) look() {
	root := "obo.v1.>"
	if g.Config.SubjectPrefix != "" {
		root = g.Config.SubjectPrefix + "." + root
	}
	g.line("")
	g.line("Look on:")
	g.line("")
	if name, ok := strings.CutPrefix(g.Config.NATSURL, "app:"); ok {
		g.line("  obo tunnel --app %s --listen %s", name, g.Config.Listen)
	} else if brokerapp.Is(g.Config.NATSURL) {
		g.line("  obo tunnel --url %s --listen %s", quote(g.Config.NATSURL), g.Config.Listen)
	}
	g.line("  obo tail --dir %s", quote(g.dir))
	g.line("  export XDG_CONFIG_HOME=%s", quote(g.Config.Dir))
	g.line("  nats --context %s sub '%s'", natsconf.InspectorContext, root)
	g.line("  nats --context %s micro ls", natsconf.InspectorContext)
	g.line("  nats --context %s server list", natsconf.SystemContext)
}

// audit says how records are kept and read.
func (g guide) audit() {
	if !g.Config.Audit {
		return
	}
	subject := func(service string) string { return natsconf.AuditSubject(g.Config.SubjectPrefix, service) }
	g.line("")
	g.line("Keep audit records: make the stream once, start the workers with the flag, and read:")
	g.line("")
	g.line("  nats --context %s stream add %s --subjects '%s' --defaults", natsconf.AuditorContext, natsconf.AuditStream, subject(">"))
	for _, name := range g.Config.Services {
		g.line("  obo-worker --kit-file %s … --audit-stream %s", g.path(g.Side(relay.RoleService, name).KitFile), subject(name))
	}
	g.line("  nats --context %s stream view %s", natsconf.AuditorContext, natsconf.AuditStream)
}

// tls are the flags that every client of a server with TLS needs.
func (g guide) tls() string {
	webSocket := strings.HasPrefix(g.Config.NATSURL, "wss")
	if g.Config.TLSCertFile == "" && !webSocket {
		return ""
	}
	flags := ""
	if !webSocket {
		flags = " --nats-tls-first"
	}
	if g.Config.CAFile != "" {
		flags += " --nats-ca-file " + quote(g.Config.CAFile)
	}
	if g.Config.ClientCAFile != "" {
		flags += " --nats-cert-file … --nats-cert-key-file …"
	}
	return flags
}

// quote makes one word of a shell's.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+:@%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
