package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// CLI is the Databricks CLI, which the developer has signed in with.
type CLI struct {
	Program string // Defaults to "databricks"
	Profile string // of ~/.databrickscfg; Defaults to what the CLI itself chooses
	Host    string // instead of a profile
}

const cliTimeout = time.Minute

// Tokens are those of databricks auth token, asked for anew before they expire.
func (c CLI) Tokens() *Kept {
	return KeepTokens(func(ctx context.Context, again bool) (relay.Token, error) {
		if again {
			// Without the flag the CLI hands out the same token until its last seconds. Older ones do not know it.
			if token, err := c.token(ctx, "--force-refresh"); err == nil {
				return token, nil
			}
		}
		return c.token(ctx)
	})
}

// token runs the command once. Its output is the token, so no error quotes it.
func (c CLI) token(ctx context.Context, flags ...string) (relay.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, cliTimeout)
	defer cancel()
	args := append([]string{"auth", "token"}, c.who()...)
	program := c.Program
	if program == "" {
		program = "databricks"
	}
	cmd := exec.CommandContext(ctx, program, append(args, flags...)...)
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return relay.Token{}, c.fault(err, stderr.String())
	}
	// https://docs.databricks.com/dev-tools/cli/reference/auth-commands: access_token, token_type, expiry
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if json.Unmarshal(stdout.Bytes(), &answer) != nil || answer.AccessToken == "" {
		return relay.Token{}, fmt.Errorf("%s auth token printed no access_token: update the Databricks CLI (0.205 or later)", program)
	}
	return relay.NewToken(answer.AccessToken)
}

func (c CLI) who() []string {
	switch {
	case c.Profile != "":
		return []string{"--profile", c.Profile}
	case c.Host != "":
		return []string{"--host", c.Host}
	}
	return nil
}

func (c CLI) fault(err error, stderr string) error {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return errors.New("the Databricks CLI is not on PATH: install it (docs.databricks.com/dev-tools/cli/install); obo dev --as alice needs none")
	}
	said := strings.TrimSpace(strings.Join(strings.Fields(stderr), " "))
	login := strings.Join(append([]string{"databricks auth login"}, c.who()...), " ")
	return fmt.Errorf("databricks auth token: %w: %.300s: sign in with %s", err, said, login)
}
