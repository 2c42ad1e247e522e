package brokerapp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// TokenSource gives the bearer token that opens the front proxy.
type TokenSource interface {
	Token(ctx context.Context) (string, error)
	// Forget makes the next Token a new one: the platform did not accept the last.
	Forget()
}

// Principal is a service principal, as the platform gives each app one. It holds a secret: neither fmt nor slog prints it.
type Principal struct {
	Workspace string // address, perhaps without https://
	ClientID  string
	Secret    string
}

// Format hides the secret from every fmt verb.
func (p Principal) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "[service principal %s]", p.ClientID)
}

// LogValue hides the secret from slog.
func (p Principal) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(p)) }

// Validate reports all faults at once.
func (p Principal) Validate() error {
	var faults []error
	if _, err := ParseHost(p.Workspace); err != nil {
		faults = append(faults, err)
	}
	if p.ClientID == "" || p.Secret == "" {
		faults = append(faults, errors.New("a broker app is reached with the OAuth credentials of a service principal, which are missing: the platform gives each app DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET; on a laptop run obo tunnel and connect to it"))
	}
	return errors.Join(faults...)
}

// refreshBefore is the least remaining life of a token that is sent.
const refreshBefore = 5 * time.Minute

// principal obtains tokens by client credentials (RFC 6749 section 4.4).
type principal struct {
	config clientcredentials.Config
	client *http.Client

	mu    sync.Mutex // held while a token is obtained, so that it is obtained once
	last  *oauth2.Token
	renew time.Duration // the last one's remaining life at which another is obtained
}

// Tokens returns the principal's tokens, obtained when needed and renewed before they expire.
func (p Principal) Tokens(client *http.Client) (TokenSource, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	host, err := ParseHost(p.Workspace)
	if err != nil {
		return nil, err
	}
	return &principal{client: client, config: clientcredentials.Config{
		ClientID: p.ClientID, ClientSecret: p.Secret, TokenURL: host.JoinPath("/oidc/v1/token").String(),
		Scopes: []string{"all-apis"}, AuthStyle: oauth2.AuthStyleInHeader,
	}}, nil
}

func (p *principal) Token(ctx context.Context) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last != nil && time.Until(p.last.Expiry) > p.renew {
		return p.last.AccessToken, nil
	}
	token, err := p.config.Token(context.WithValue(ctx, oauth2.HTTPClient, p.client))
	if err != nil {
		return "", tokenFault(err)
	}
	p.last, p.renew = token, min(refreshBefore, time.Until(token.Expiry)/2)
	return token.AccessToken, nil
}

func (p *principal) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = nil
}

// tokenFault says what the workspace answered, without its text, which could quote the request.
func tokenFault(err error) error {
	answer, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || answer.Response == nil {
		return fmt.Errorf("the workspace's token endpoint cannot be reached: %w", unwrapURL(err))
	}
	if status := answer.Response.StatusCode; status == http.StatusBadRequest || status == http.StatusUnauthorized || status == http.StatusForbidden {
		return fmt.Errorf("the workspace gives the service principal no token (%s): compare DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET with what the platform gives this app", code(status, answer.ErrorCode))
	}
	return fmt.Errorf("the workspace's token endpoint answered %d", answer.Response.StatusCode)
}
