package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/databricks/databricks-sdk-go/apierr"
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
	// Other methods are never sent twice. Negative = no second try. Defaults to 5 s.
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
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("the address of %s is http: tokens are sent in clear to loopback addresses only, write https", u.Host)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("the address has scheme %q, write https://%s", u.Scheme, u.Host)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// checkEnvironment refuses the one variable of the SDK's that would have every token printed.
func checkEnvironment(getenv func(string) string) error {
	switch strings.ToLower(strings.TrimSpace(getenv("DATABRICKS_DEBUG_HEADERS"))) {
	case "", "0", "f", "false", "n", "no", "off":
		return nil
	}
	return errors.New("DATABRICKS_DEBUG_HEADERS is set: it prints people's tokens to the log; unset it")
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

// guard is the transport under the SDK. It keeps the token on the workspace's host, follows no redirect, and is the only
// one that sends a request again. Its errors are *callFault, whose texts the SDK does not take for a reason to retry.
type guard struct {
	base         http.RoundTripper
	host         *url.URL
	retryTimeout time.Duration
	userAgent    string
}

// maxJSON limits the answers that the SDK reads into memory as a whole. SQL results inline are at most 25 MiB.
const maxJSON = 32 << 20

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != g.host.Scheme || r.URL.Host != g.host.Host {
		if r.Body != nil {
			_ = r.Body.Close()
		}
		return nil, &callFault{reason: "a call to another host was stopped"}
	}
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", g.userAgent) // the SDK's tells what it finds in the environment
	deadline := time.Now().Add(g.retryTimeout)
	for attempt := 0; ; attempt++ {
		resp, err := g.base.RoundTrip(r)
		wait, again := retryAfter(r, resp, err, attempt)
		if !again || time.Now().Add(wait).After(deadline) {
			return g.judge(r, resp, err)
		}
		discard(resp)
		if !pause(r.Context(), wait) {
			return nil, newCallFault(r.Context().Err())
		}
	}
}

const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// retryAfter reports whether the same request may be sent again, and when.
func retryAfter(r *http.Request, resp *http.Response, err error, attempt int) (time.Duration, bool) {
	if (r.Method != http.MethodGet && r.Method != http.MethodHead) || (r.Body != nil && r.Body != http.NoBody) || r.Context().Err() != nil {
		return 0, false
	}
	backoff := min(minBackoff<<min(attempt, 8), maxBackoff)
	backoff = backoff/2 + rand.N(backoff/2)
	if err != nil {
		_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
		return backoff, !untrusted
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return max(backoff, parseRetryAfter(resp.Header, time.Now())), true
	}
	return 0, false
}

// judge turns what is no answer of the API into an error.
func (g *guard) judge(r *http.Request, resp *http.Response, err error) (*http.Response, error) {
	if err != nil {
		return nil, newCallFault(err)
	}
	wantsJSON := r.Header.Get("Accept") == "application/json"
	switch {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		defer discard(resp)
		return nil, g.redirected(resp)
	case resp.StatusCode < 300 && wantsJSON && isHTML(resp.Header):
		defer discard(resp)
		return nil, &callFault{reason: "the workspace answered with an HTML page instead of JSON", header: resp.Header}
	case wantsJSON:
		resp.Body = &limitedBody{ReadCloser: resp.Body, left: maxJSON}
	}
	return resp, nil
}

// redirected tells a way to the sign-in page, which means that the token does not count, from any other redirect.
func (g *guard) redirected(resp *http.Response) *callFault {
	f := &callFault{reason: fmt.Sprintf("the workspace answered %d, a redirect, which is not followed", resp.StatusCode), header: resp.Header}
	to, err := g.host.Parse(resp.Header.Get("Location"))
	if err != nil {
		return f
	}
	path := strings.ToLower(to.Path)
	switch {
	case strings.Contains(to.RawQuery, "private-link-validation-error"):
		f.reason = "the workspace is reachable over its private link only (it redirects to a page that says so)"
	case strings.Contains(path, "/login"), strings.Contains(path, "/signin"), strings.Contains(path, "/authorize"):
		f.reason, f.signIn = "the workspace redirects to its sign-in page instead of answering", true
	}
	return f
}

func isHTML(h http.Header) bool {
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	return mediaType == "text/html" || mediaType == "application/xhtml+xml"
}

// discard reads a little so that the connection can be used again.
func discard(resp *http.Response) {
	if resp != nil {
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
		_ = resp.Body.Close()
	}
}

type limitedBody struct {
	io.ReadCloser
	left int64
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, &callFault{reason: "the workspace's answer is over 32 MiB"}
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// callFault is why there is no answer of the API. Its reason holds nothing that the other side wrote.
type callFault struct {
	reason string
	signIn bool
	header http.Header // of the answer that was none
	err    error       // only ever context.Canceled or context.DeadlineExceeded
}

func (f *callFault) Error() string { return f.reason }
func (f *callFault) Unwrap() error { return f.err }

func newCallFault(err error) *callFault {
	if f, ok := errors.AsType[*callFault](err); ok {
		return f
	}
	_, noName := errors.AsType[*net.DNSError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, context.Canceled):
		return &callFault{reason: "the workspace gave no sign of life in time", err: context.Canceled}
	case errors.Is(err, context.DeadlineExceeded):
		return &callFault{reason: "the workspace did not answer in time", err: context.DeadlineExceeded}
	case noName:
		return &callFault{reason: "the workspace's host name cannot be resolved"}
	case untrusted:
		return &callFault{reason: "the workspace's TLS certificate is not trusted"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &callFault{reason: "the workspace's host refused the connection"}
	case isNet && timeout.Timeout():
		return &callFault{reason: "the workspace's host did not respond in time"}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &callFault{reason: "the connection to the workspace broke off"}
	}
	return &callFault{reason: "the workspace cannot be reached, or does not speak HTTP"}
}

// workspaceFault turns what the SDK returned into an error of the table. Texts of the SDK and of the workspace are never
// passed on: they may quote what they were sent.
func workspaceFault(ctx context.Context, token relay.Token, err error) *relay.Error {
	if e, ok := errors.AsType[*relay.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*apierr.APIError](err); ok {
		return apiFault(token, e)
	}
	if ctx.Err() != nil {
		return callerLeft(ctx.Err())
	}
	f, ok := errors.AsType[*callFault](err)
	if !ok {
		return relay.NewError(relay.CodeWorkspaceDown, "the workspace's answer cannot be read")
	}
	code := relay.CodeWorkspaceDown
	if f.signIn {
		code = relay.CodeTokenRejected
	}
	return relay.NewError(code, f.reason+workspaceRequest(token, f.header))
}

// tokenFault are words of the workspace's own for a token that does not count, where the status alone does not say so:
// 403 "Invalid access token.", 400 "Invalid Token", and 400 for a token of another audience.
var tokenFault = regexp.MustCompile(`(?i)\b(invalid|expired|malformed) (access )?token\b|\btoken (is |has )?(invalid|expired|malformed)\b|IncorrectClaimException`)

func apiFault(token relay.Token, e *apierr.APIError) *relay.Error {
	var header http.Header
	if e.ResponseWrapper != nil && e.ResponseWrapper.Response != nil {
		header = e.ResponseWrapper.Response.Header
	}
	request := workspaceRequest(token, header)
	status := e.StatusCode
	switch {
	case status == http.StatusUnauthorized:
		return relay.NewError(relay.CodeTokenRejected, "the workspace answered 401"+request)
	case isHTML(header):
		return relay.Errorf(relay.CodeWorkspaceDown, "the workspace answered %d with an HTML page%s", status, request)
	case (status == http.StatusForbidden || status == http.StatusBadRequest) && tokenFault.MatchString(e.Message):
		return relay.Errorf(relay.CodeTokenRejected, "the workspace answered %d and names the token as the reason%s", status, request)
	case status == http.StatusForbidden:
		if scopes, missing := missingScopes(token, e.Message, header); missing {
			return relay.NewError(relay.CodeScopeMissing, "the workspace answered 403: the token lacks "+scopes+request)
		}
		return relay.NewError(relay.CodeForbidden, "the workspace answered 403"+request)
	}
	fault := relay.Errorf(relay.CodeWorkspaceDown, "the workspace answered %d%s", status, request)
	fault.After = parseRetryAfter(header, time.Now())
	return fault
}

var (
	scopeFault = regexp.MustCompile(`(?i)insufficient[_ ]scope|(required|missing|lacks?|needs?)( the)?( oauth)? scopes?`)
	scopeList  = regexp.MustCompile(`(?i)\bscopes?"?( is| are)?[:=] *"?([a-z0-9._:/ ,-]+)`)
	scopeName  = regexp.MustCompile(`^[a-z][a-z0-9-]*([.:/][a-z0-9-]+)*$`)
)

// missingScopes reports whether a 403 is about scopes, and names those that it names. The forms are "Provided OAuth token
// does not have required scopes: sql" and RFC 6750 §3.1.
func missingScopes(token relay.Token, message string, header http.Header) (string, bool) {
	text := message + "\n" + header.Get("WWW-Authenticate")
	if !scopeFault.MatchString(text) {
		return "", false
	}
	var names []string
	if found := scopeList.FindStringSubmatch(text); found != nil {
		for _, name := range strings.FieldsFunc(found[2], func(c rune) bool { return c == ' ' || c == ',' }) {
			if len(names) == 5 || len(name) > 64 || !scopeName.MatchString(name) || echoes(token, name) {
				break
			}
			names = append(names, name)
		}
	}
	switch len(names) {
	case 0:
		return "a scope", true
	case 1:
		return "the scope " + names[0], true
	}
	return "one of the scopes " + strings.Join(names, ", "), true
}

var workspaceRequestID = regexp.MustCompile(`^[0-9A-Za-z-]{8,64}$`)

// workspaceRequest is the workspace's own id of a call, for its support.
func workspaceRequest(token relay.Token, header http.Header) string {
	for _, name := range []string{"X-Databricks-Request-Id", "X-Request-Id"} {
		if id := header.Get(name); workspaceRequestID.MatchString(id) && !echoes(token, id) {
			return " (workspace request " + id + ")"
		}
	}
	return ""
}

// echoes reports whether a word from outside is part of the token, or holds it.
func echoes(token relay.Token, word string) bool {
	value := token.Reveal()
	return value != "" && (strings.Contains(word, value) || len(word) >= 8 && strings.Contains(value, word))
}

// parseRetryAfter reads seconds or a date (RFC 9110 §10.2.3), at most a day; 0 = not said.
func parseRetryAfter(header http.Header, now time.Time) time.Duration {
	const most = 24 * time.Hour
	value := header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, most)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), most)
	}
	return 0
}
