package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/deploy/doctor"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

// callCommand sends one request.
type callCommand struct {
	Service string `arg:"" help:"The service."`
	Path    string `arg:"" help:"Path and query, for example /groups?all=1."`

	Method       string        `short:"X" placeholder:"METHOD" help:"Default: GET, or POST with a body."`
	Header       []string      `short:"H" sep:"none" placeholder:"NAME: VALUE" help:"A header. May be repeated."`
	Data         string        `short:"d" placeholder:"BODY" help:"The body; @FILE reads it from a file."`
	Include      bool          `short:"i" help:"Print status and headers too."`
	TokenFile    string        `placeholder:"FILE" help:"The person's access token, readable by its owner only. Default: standard input."`
	App          string        `placeholder:"NAME" help:"Name of the app that calls. Default: the kit's."`
	Timeout      time.Duration `default:"60s" placeholder:"TIME" help:"Longest time to the first byte of the response. Default: 60s."`
	OpaqueTokens bool          `help:"Send a token that is not a JWT with an expiry, such as a personal access token."`
	relay.Settings
}

// Run sends the request and prints the response. A failure of the relay is an error with its code and remedy.
func (c *callCommand) Run(t *terminal) error {
	side, faults := c.Load(relay.RoleApp)
	request, err := c.request(t)
	if err = errors.Join(faults, err); err != nil {
		return err
	}
	transport, err := publisher.New(publisher.Config{
		App: cmp.Or(c.App, side.Name), Identity: side.Identity, Trust: side.Trust, NATS: side.Connect, Prefix: side.Prefix,
		Timeout: c.Timeout, OpaqueTokens: c.OpaqueTokens, Hints: side.Hints,
		Log: slog.New(slog.NewTextHandler(t.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.ctx))
	ended := make(chan error, 1)
	go func() { ended <- transport.Run(ctx) }()
	err = c.exchange(t, transport, request)
	stop()
	err = withRemedy(err, side.Connect)
	var late <-chan time.Time
	if t.ctx.Err() != nil { // who interrupts it does not wait for an attempt to connect that is under way
		late = time.After(time.Second)
	}
	select {
	case fault := <-ended:
		return errors.Join(err, fault)
	case <-late:
		return err
	}
}

// request is what to send, or all faults at once.
func (c *callCommand) request(t *terminal) (*http.Request, error) {
	body, bodyFault := c.body()
	header, headerFault := c.header()
	token, tokenFault := c.token(t)
	if err := errors.Join(c.target(), bodyFault, headerFault, tokenFault); err != nil {
		return nil, err
	}
	method := cmp.Or(c.Method, http.MethodGet)
	if c.Method == "" && c.Data != "" {
		method = http.MethodPost
	}
	r, err := http.NewRequestWithContext(t.ctx, method, "http://"+c.Service+c.Path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header = header
	r.Header.Set(relay.HeaderAccessToken, token)
	return r, nil
}

func (c *callCommand) target() error {
	var faults []error
	if !relay.ValidName(c.Service) {
		faults = append(faults, fmt.Errorf("service %q: want the name of a service", c.Service))
	}
	if !strings.HasPrefix(c.Path, "/") {
		faults = append(faults, fmt.Errorf("path %q: want one that starts with /", c.Path))
	}
	return errors.Join(faults...)
}

func (c *callCommand) header() (http.Header, error) {
	header := http.Header{}
	var faults []error
	for i, h := range c.Header {
		name, value, ok := strings.Cut(h, ":")
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "authorization", "x-forwarded-access-token":
			faults = append(faults, fmt.Errorf("header %s: a command line can be seen by others: give the token with --token-file or on standard input", name))
			continue
		case "":
			ok = false
		}
		if !ok {
			faults = append(faults, fmt.Errorf("--header number %d: want 'NAME: VALUE'", i+1)) // it may be a token, so it is not shown
			continue
		}
		header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return header, errors.Join(faults...)
}

func (c *callCommand) body() ([]byte, error) {
	name, isFile := strings.CutPrefix(c.Data, "@")
	if !isFile {
		return []byte(c.Data), nil
	}
	body, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	return body, nil
}

// token is never a flag: a command line can be seen by others.
func (c *callCommand) token(t *terminal) (string, error) {
	var data []byte
	var err error
	if c.TokenFile != "" {
		if data, err = relay.ReadSecretFile(c.TokenFile); err != nil {
			err = fmt.Errorf("--token-file: %w", err)
		}
	} else {
		if f, ok := t.stdin.(*os.File); ok {
			if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
				return "", errors.New("no token: pipe the person's access token in, or name a file with --token-file")
			}
		}
		data, err = doctor.Terminal{Stdin: t.stdin}.ReadStdin(t.ctx)
	}
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", errors.New("no token: pipe the person's access token in, or name a file with --token-file")
	}
	_, err = relay.NewToken(token)
	return token, err
}

func (c *callCommand) exchange(t *terminal, transport http.RoundTripper, request *http.Request) error {
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if c.Include {
		fmt.Fprintf(t.stdout, "%s %s\n", response.Proto, response.Status)
		if err := response.Header.Write(t.stdout); err != nil {
			return err
		}
		fmt.Fprintln(t.stdout)
	}
	_, err = io.Copy(t.stdout, response.Body)
	return err
}

// withRemedy adds what the caller knows and what to do, each on a line of its own. Why NATS cannot be reached is looked for
// once more: the code does not tell a server that is down from one that does not know this user.
func withRemedy(err error, nats relay.ConnectConfig) error {
	e, ok := errors.AsType[*relay.Error](err)
	if !ok {
		return err
	}
	knows := fmt.Errorf("what the caller knows: %s", e.Problem().Outcome)
	if e.Code == relay.CodeNATSUnavailable && !brokerapp.Is(nats.URL) { // which says what to do itself, in the log
		nc, cause := relay.ConnectOnce(nats)
		if cause != nil {
			return errors.Join(err, fmt.Errorf("cannot connect to NATS: %w", cause), knows, fmt.Errorf("what to do: %s", nats.Remedy(cause)))
		}
		nc.Close()
	}
	return errors.Join(err, knows, whatToDo(err))
}

// whatToDo is the remedy of a failure of the relay, nil if there is none.
func whatToDo(err error) error {
	if e, ok := errors.AsType[*relay.Error](err); ok && e.Code.Info().Remedy != "" {
		return fmt.Errorf("what to do: %s", e.Code.Info().Remedy)
	}
	return nil
}
