package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/databricks/databricks-sdk-go/client"
	"github.com/databricks/databricks-sdk-go/config"
	"github.com/databricks/databricks-sdk-go/config/credentials"
	"github.com/databricks/databricks-sdk-go/httpclient"
	"github.com/databricks/databricks-sdk-go/service/iam"

	"github.com/obo-relay/obo-relay/relay"
)

// WorkspaceConfig configures a Workspace.
type WorkspaceConfig struct {
	// Host is the workspace's address, with or without "https://". http is accepted for loopback addresses only, since
	// the person's token goes there. Required.
	Host string
	// Transport carries the requests. It is not closed. Defaults to one of the Workspace's own, which verifies TLS and
	// uses the proxy that HTTPS_PROXY and NO_PROXY name.
	Transport http.RoundTripper
	// RetryTimeout limits the time in which a GET or HEAD is tried again after 429, 502, 503, 504 or a broken connection.
	// Other methods are never sent twice, but for what the workspace proves that it did not take, and a DELETE whose HTTP/2
	// stream is reset: up to eight times. Negative = no second try. Defaults to 5 s.
	RetryTimeout time.Duration
	// Timeout is the longest time without a sign of life from the workspace. Defaults to 60 s, since a SQL statement may
	// be waited for during 50 s.
	Timeout time.Duration
	// UserAgent names this program to the workspace. Defaults to "obo-worker".
	UserAgent string
	// Clock defaults to time.Now.
	Clock func() time.Time
}

func (c WorkspaceConfig) withDefaults() WorkspaceConfig {
	if c.RetryTimeout == 0 {
		c.RetryTimeout = 5 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = 60 * time.Second
	}
	if c.UserAgent == "" {
		c.UserAgent = "obo-worker"
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

// validate returns the address of the workspace, and every fault.
func (c WorkspaceConfig) validate() (*url.URL, error) {
	var faults []error
	host, err := parseHost(c.Host)
	if err != nil {
		faults = append(faults, fmt.Errorf("workspace: %w", err))
	}
	if c.Timeout < 0 {
		faults = append(faults, fmt.Errorf("workspace: Timeout is %v, it must be positive", c.Timeout))
	}
	if !plainValue(c.UserAgent) {
		faults = append(faults, errors.New("workspace: UserAgent is not visible ASCII of at most 1 KiB"))
	}
	return host, errors.Join(faults...)
}

// parseHost reads what people paste as a workspace's address.
func parseHost(s string) (*url.URL, error) {
	if s == "" {
		return nil, errors.New("the address is missing: set --workspace or DATABRICKS_HOST")
	}
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("the address cannot be read as a URL") // the parser's error quotes it, with any password
	}
	switch {
	case u.User != nil:
		return nil, errors.New("the address carries a user name or password, remove it")
	case u.Hostname() == "":
		return nil, errors.New("the address has no host name")
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		return nil, fmt.Errorf("the address has more than a host: write https://%s", u.Host)
	case u.Scheme == "http" && !relay.Loopback(u.Hostname()):
		return nil, fmt.Errorf("the address of %s is http: tokens are sent in clear to loopback addresses only, write https", u.Host)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("the address has scheme %q, write https://%s", u.Scheme, u.Host)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// checkEnvironment refuses the one variable of the SDK's that would have every token printed.
func checkEnvironment(getenv func(string) string) error {
	if !DebugsHeaders(getenv("DATABRICKS_DEBUG_HEADERS")) {
		return nil
	}
	return errors.New("DATABRICKS_DEBUG_HEADERS is set: it prints people's tokens to the log; unset it")
}

// DebugsHeaders reports whether a worker refuses to start with that value of DATABRICKS_DEBUG_HEADERS.
func DebugsHeaders(value string) bool {
	switch strings.ToLower(strings.TrimSpace(value)) {
	case "", "0", "f", "false", "n", "no", "off":
		return false
	}
	return true
}

// Workspace makes calls to one Databricks workspace as the person whose token it is given, and never as anyone else: no
// environment variable, configuration file, profile, metadata service or service principal takes part. It is safe for
// concurrent use, and clients for different people share nothing but connections.
type Workspace struct {
	cfg   WorkspaceConfig
	host  *url.URL
	guard *guard
	own   *http.Transport // nil if the caller brought one
}

// NewWorkspace checks the configuration. It makes no call.
func NewWorkspace(cfg WorkspaceConfig) (*Workspace, error) {
	cfg = cfg.withDefaults()
	host, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	w := &Workspace{cfg: cfg, host: host}
	if cfg.Transport == nil {
		w.own = newTransport()
		cfg.Transport = w.own
	}
	w.guard = &guard{base: cfg.Transport, host: host, retryTimeout: cfg.RetryTimeout, userAgent: cfg.UserAgent}
	return w, nil
}

func newTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 5 * time.Second, ExpectContinueTimeout: time.Second,
		MaxIdleConns: 64, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		// Notice a connection that died behind a NAT before a person's request waits for it.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
	}
}

// Close closes idle connections. Calls under way go on. Closing twice is fine.
func (w *Workspace) Close() {
	if w.own != nil {
		w.own.CloseIdleConnections()
	}
}

// Client returns an SDK client that acts as the person. It refuses an empty or expired token with a *relay.Error, now and
// on each later call.
func (w *Workspace) Client(token relay.Token) (*client.DatabricksClient, error) {
	if err := checkToken(token, w.cfg.Clock()); err != nil {
		return nil, err
	}
	cfg := &config.Config{
		Host:        w.host.String(),
		Credentials: personCredentials{token: token, clock: w.cfg.Clock},
		// An empty list would stand for environment and ~/.databrickscfg.
		Loaders: []config.Loader{noLoader{}},
		// Without it each client calls GET /.well-known/databricks-config, which no context can end.
		HostMetadataResolver: func(context.Context, string) (*config.HostMetadata, error) { return nil, nil },
		HTTPTransport:        w.guard,
	}
	clientConfig, err := config.HTTPClientConfigFromConfig(cfg)
	if err != nil {
		return nil, relay.NewError(relay.CodeInternal, "the workspace client cannot be configured") // the text may show the configuration
	}
	// The SDK would retry POST too, and start again at 1 s; guard retries instead.
	clientConfig.ErrorRetriable = func(context.Context, error) bool { return false }
	clientConfig.TransientErrors = nil
	clientConfig.RetryTimeout = w.cfg.Timeout // 5 min by default, and what would count if the two lines above were lost
	clientConfig.HTTPTimeout = w.cfg.Timeout
	clientConfig.RateLimitPerSecond = 1000 // the worker has limits of its own
	c, err := client.NewWithClient(cfg, httpclient.NewApiClient(clientConfig))
	if err != nil {
		return nil, relay.NewError(relay.CodeInternal, "the workspace client cannot be made")
	}
	return c, nil
}

// Me asks the workspace who the token's person is (SCIM Me, without entitlements, which are dear). Errors are
// *relay.Error: token_rejected, scope_missing, forbidden, workspace_unavailable, canceled, or those of Client.
func (w *Workspace) Me(ctx context.Context, token relay.Token) (*User, error) {
	c, err := w.Client(token)
	if err != nil {
		return nil, err
	}
	me, err := iam.NewCurrentUser(c).Me(ctx, iam.MeRequest{ExcludedAttributes: "entitlements"})
	if err != nil {
		return nil, workspaceFault(ctx, token, err)
	}
	return newUser(me)
}

// checkToken refuses what must not lead to any call. The workspace has the last word within the leeway.
func checkToken(token relay.Token, now time.Time) error {
	switch {
	case token.IsZero():
		return relay.NewError(relay.CodeTokenMissing, "there is no access token")
	case !token.Opaque() && now.Sub(token.Expiry()) > relay.Leeway:
		return relay.Errorf(relay.CodeTokenExpired, "the access token expired at %s", token.Expiry().UTC().Format(time.RFC3339))
	}
	return nil
}

// personCredentials is the SDK's pat strategy with two differences: the token is not in a printable field of the
// configuration, and it is checked before each call.
type personCredentials struct {
	token relay.Token
	clock func() time.Time
}

func (personCredentials) Name() string { return "pat" }

func (p personCredentials) Configure(context.Context, *config.Config) (credentials.CredentialsProvider, error) {
	return credentials.CredentialsProviderFn(func(r *http.Request) error {
		if err := checkToken(p.token, p.clock()); err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+p.token.Reveal())
		return nil
	}), nil
}

type noLoader struct{}

func (noLoader) Name() string                   { return "none" }
func (noLoader) Configure(*config.Config) error { return nil }
