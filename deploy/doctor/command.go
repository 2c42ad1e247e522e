package doctor

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// Command is the doctor on a command line: the flags, as kong reads them, of obo doctor and of obo-doctor.
type Command struct {
	TokenFile    string        `placeholder:"FILE" help:"The person's access token, readable by its owner only; - is standard input. Default: $$OBO_TOKEN."`
	Token        string        `placeholder:"TOKEN" help:"The token itself: meant for the environment."`
	Role         string        `enum:"app,service," default:"" placeholder:"ROLE" help:"Whose configuration it is: app or service. Default: what the kit says, else app."`
	Name         string        `env:"OBO_APP,OBO_SERVICE" placeholder:"NAME" help:"Name of the app or service. Default: the kit's, else $$DATABRICKS_APP_NAME."`
	Calls        []string      `placeholder:"SERVICE" help:"Service to look at, from an app. May be repeated. Default: all of the trust file."`
	Path         string        `default:"/" placeholder:"PATH" help:"What is asked of the service, with GET, in the round trip. Default: /."`
	Workspace    string        `env:"OBO_WORKSPACE,DATABRICKS_HOST" placeholder:"URL" help:"The workspace."`
	Forward      string        `placeholder:"URL" help:"Of a service: where the middleware app is. Default: http://127.0.0.1:$$DATABRICKS_APP_PORT."`
	Scope        []string      `placeholder:"SCOPE" help:"A scope that the token needs beside iam.current-user:read, for example sql. May be repeated."`
	Hold         time.Duration `placeholder:"TIME" help:"Watch an idle connection to NATS this long, for example 150s, to see whether a proxy cuts it."`
	Direct       string        `placeholder:"URL" help:"Front door of the other app: see whether the platform brings the person's token there without the relay."`
	Timeout      time.Duration `default:"10s" placeholder:"TIME" help:"Longest time of a step. Default: 10s."`
	Serve        string        `placeholder:"HOST:PORT" help:"Take the place of an app for a moment: look once for each page load, with the token that the platform gives it. auto is 0.0.0.0:$$DATABRICKS_APP_PORT."`
	JSON         bool          `name:"json" help:"Print the report as JSON (schemas/obo.v1.doctor.json)."`
	OpaqueTokens bool          `help:"Accept a token that is not a JWT with an expiry."`
	relay.Settings
}

// Terminal is what a Command runs in.
type Terminal struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// ReadStdin reads what is piped in, a token say. It does not wait for it when ctx has ended.
func (t Terminal) ReadStdin(ctx context.Context) ([]byte, error) {
	type input struct {
		data []byte
		err  error
	}
	read := make(chan input, 1)
	go func() {
		data, err := io.ReadAll(io.LimitReader(t.Stdin, 64<<10))
		read <- input{data, err}
	}()
	select {
	case in := <-read:
		return in.data, in.err
	case <-ctx.Done():
		return nil, errors.New("interrupted while reading standard input")
	}
}

// Execute prints the report. The status is 0 if all is well, 1 if a step failed, 3 if there are warnings only.
func (c *Command) Execute(ctx context.Context, t Terminal) (status int, err error) {
	cfg, err := c.config(ctx, t)
	if err != nil {
		return 0, err
	}
	if c.Serve != "" {
		return 0, c.serve(ctx, t, cfg)
	}
	report := Run(ctx, cfg)
	if ctx.Err() != nil { // what it asked last had no time to answer
		return 1, errors.New("interrupted, so there is no report")
	}
	if c.JSON {
		out := json.NewEncoder(t.Stdout)
		out.SetIndent("", "  ")
		out.SetEscapeHTML(false)
		err = out.Encode(report)
	} else {
		var text strings.Builder
		report.Print(&text)
		_, err = io.WriteString(t.Stdout, text.String())
	}
	return report.ExitCode(), err
}

func (c *Command) config(ctx context.Context, t Terminal) (Config, error) {
	cfg := Config{
		Environ: os.Environ(), Services: c.Calls, Path: c.Path, Workspace: c.Workspace, Scopes: c.Scope, Hold: c.Hold,
		Direct: c.Direct, Timeout: c.Timeout, OpaqueTokens: c.OpaqueTokens, Forward: c.Forward,
	}
	if port := os.Getenv("DATABRICKS_APP_PORT"); cfg.Forward == "" && port != "" {
		cfg.Forward = "http://127.0.0.1:" + port
	}
	if cfg.Forward != "" && !strings.Contains(cfg.Forward, "://") {
		cfg.Forward = "http://" + cfg.Forward
	}
	if !strings.HasPrefix(c.Path, "/") {
		return cfg, fmt.Errorf("--path %q: want one that starts with /", c.Path)
	}
	cfg.Role = relay.Role(c.Role)
	if given := c.KitFile + c.Kit + c.KeyFile + c.Key + c.TrustFile + c.Trust + c.NATS; given != "" {
		cfg.Role = cmp.Or(cfg.Role, c.kitRole(), relay.RoleApp)
		cfg.Side, cfg.SettingsFault = c.Load(cfg.Role)
		cfg.Name = cmp.Or(c.Name, cfg.Side.Name, os.Getenv("DATABRICKS_APP_NAME"))
		if cfg.SettingsFault == nil && !relay.ValidName(cfg.Name) {
			cfg.SettingsFault = errors.New("--name (OBO_APP, OBO_SERVICE): nothing says the name of this app or service")
		}
	}
	var err error
	cfg.Token, cfg.TokenFrom, err = c.token(ctx, t)
	return cfg, err
}

// kitRole is what the kit says; empty if there is none, or none that can be read: that is reported later. A pipe can be read
// only once, so what was in it takes its place.
func (c *Command) kitRole() relay.Role {
	data := []byte(c.Kit)
	if c.KitFile != "" {
		info, err := os.Stat(c.KitFile)
		if err == nil {
			data, err = relay.ReadSecretFile(c.KitFile)
		}
		if err != nil {
			return ""
		}
		if !info.Mode().IsRegular() && c.Kit == "" {
			c.KitFile, c.Kit = "", string(data)
		}
	}
	var kit struct {
		Role relay.Role `json:"role"`
	}
	if json.Unmarshal(data, &kit) != nil || kit.Role != relay.RoleService {
		return ""
	}
	return kit.Role
}

// token reads it, and says where it came from or was looked for. None at all is for the report.
func (c *Command) token(ctx context.Context, t Terminal) (text, from string, err error) {
	switch {
	case c.TokenFile == "-":
		data, err := t.ReadStdin(ctx)
		return strings.TrimSpace(string(data)), "standard input", err
	case c.TokenFile != "":
		data, err := relay.ReadSecretFile(c.TokenFile)
		if err != nil {
			err = fmt.Errorf("--token-file: %w", err)
		}
		return strings.TrimSpace(string(data)), "the file of --token-file", err
	case c.Token != "":
		return strings.TrimSpace(c.Token), "OBO_TOKEN", nil
	}
	return "", "--token-file, standard input (--token-file -) or OBO_TOKEN", nil
}

// serve stands in for an app until it is stopped.
func (c *Command) serve(ctx context.Context, t Terminal, cfg Config) error {
	address := c.Serve
	if address == "auto" {
		port := os.Getenv("DATABRICKS_APP_PORT")
		if port == "" {
			return errors.New("--serve auto: DATABRICKS_APP_PORT is not set: name an address, for example 127.0.0.1:8000")
		}
		address = "0.0.0.0:" + port
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("--serve: %w: stop the program that listens there, or choose another address", err)
	}
	cfg.Forward = "" // it stands in the app's place
	fmt.Fprintf(t.Stderr, "obo doctor: serving at http://%s: open the app's page\n", listener.Addr())
	server := &http.Server{
		Handler: Handler(cfg), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.NewTextHandler(t.Stderr, nil), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}
