package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/deploy/dev"
	"github.com/obo-relay/obo-relay/relay"
)

// databricksCLI is the Databricks CLI on PATH, signed in as the developer.
type databricksCLI struct{ profile string }

var errNoCLI = errors.New("the Databricks CLI is not on PATH: install it, and sign in with databricks auth login")

// words are the arguments of a call.
func (d databricksCLI) words(args ...string) []string {
	if d.profile != "" {
		args = append(args, "--profile", d.profile)
	}
	return args
}

// run returns what the CLI prints; stdin may hold a secret, the arguments must not.
func (d databricksCLI) run(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "databricks", d.words(args...)...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.WaitDelay = 5 * time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errNoCLI
	case err != nil:
		said := strings.Join(strings.Fields(stderr.String()), " ")
		return nil, fmt.Errorf("databricks %s: %w: %.300s", strings.Join(args[:min(2, len(args))], " "), err, said)
	}
	return stdout.Bytes(), nil
}

// appFields are those of databricks apps get that are read here.
type appFields struct {
	URL                      string `json:"url"`
	ServicePrincipalClientID string `json:"service_principal_client_id"`
}

// app is what the workspace knows of an app.
func (d databricksCLI) app(ctx context.Context, name string) (appFields, error) {
	var fields appFields
	out, err := d.run(ctx, nil, "apps", "get", name, "--output", "json")
	if err != nil {
		return fields, err
	}
	if err := json.Unmarshal(out, &fields); err != nil {
		return fields, fmt.Errorf("databricks apps get %s does not print JSON: update the Databricks CLI", name)
	}
	return fields, nil
}

// developerTokens are the developer's own, from the Databricks CLI.
type developerTokens struct{ *dev.Kept }

func (d developerTokens) Token(ctx context.Context) (string, error) {
	token, err := d.Kept.Token(ctx)
	if err != nil {
		return "", err
	}
	return token.Reveal(), nil
}

// fixedToken is one that was given.
type fixedToken string

func (f fixedToken) Token(context.Context) (string, error) { return string(f), nil }
func (fixedToken) Forget()                                 {}

// tokenFile names a file with a token, which may be replaced while it is in use.
type tokenFile string

func (f tokenFile) Token(context.Context) (string, error) {
	text, err := relay.ReadSecretFile(string(f))
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	token, err := relay.NewToken(strings.TrimSpace(string(text)))
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	return token.Reveal(), nil
}

// Forget does nothing: the file is read each time.
func (tokenFile) Forget() {}
