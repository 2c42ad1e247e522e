package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/relay"
)

// browser is one person's: it has the UI app's page open.
type browser struct {
	user   string
	client *http.Client
}

func newBrowser(user string) *browser {
	jar, _ := cookiejar.New(nil) // never fails without options
	return &browser{user, &http.Client{Jar: jar, Transport: &http.Transport{}, Timeout: patience}}
}

// get opens an address of the UI app, and signs in if it is led to the sign-in page.
func (b *browser) get(ctx context.Context, address string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := b.client.Do(r)
	if err != nil || !strings.HasPrefix(resp.Request.URL.Path, "/oidc/") {
		return resp, err
	}
	_ = resp.Body.Close() // the form, which a person would read
	form := *resp.Request.URL
	values := form.Query()
	values.Set("user", b.user)
	form.RawQuery = ""
	r, err = http.NewRequestWithContext(ctx, http.MethodPost, form.String(), strings.NewReader(values.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.client.Do(r)
}

func (b *browser) close() { b.client.CloseIdleConnections() }

// Visitors are those whom the stage lets call: two people who are signed in, and two whose token has a flaw.
const (
	VisitorAlice   = "alice"
	VisitorBob     = "bob"
	VisitorExpired = "expired"  // alice, whose page has been left open for longer than her token lives
	VisitorNoScope = "no-scope" // alice, with a token that may not ask who she is
)

// Call lets a visitor use the UI app, which calls the middleware app at path in one of its ways.
func (s *Stage) Call(ctx context.Context, visitor, way, path string) (*Answer, error) {
	query := "/call?" + url.Values{"way": {way}, "path": {path}}.Encode()
	resp, err := s.visit(ctx, visitor, query)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 2*maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the UI app answered %s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	answer := new(Answer)
	if err := json.Unmarshal(body, answer); err != nil {
		return nil, fmt.Errorf("the UI app's answer: %w", err)
	}
	return answer, nil
}

func (s *Stage) visit(ctx context.Context, visitor, query string) (*http.Response, error) {
	if b := s.browsers[visitor]; b != nil {
		return b.get(ctx, s.UI+query)
	}
	// The front proxy hands out no such token, so the UI app is given it directly, as from a page that was left open.
	token, err := s.Token(visitor)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.uiDirect+query, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set(relay.HeaderAccessToken, token)
	return s.client.Do(r)
}

// Token issues a visitor's token, as the front proxy hands it to the UI app.
func (s *Stage) Token(visitor string) (string, error) {
	user, opts := Alice, sandbox.TokenOptions{App: uiApp}
	switch visitor {
	case VisitorAlice:
	case VisitorBob:
		user = Bob
	case VisitorExpired:
		opts.Lifetime = -10 * time.Minute
	case VisitorNoScope:
		opts.Scopes = []string{"sql"}
	default:
		return "", errors.New("no such visitor")
	}
	return s.Workspace.Token(user, opts)
}
