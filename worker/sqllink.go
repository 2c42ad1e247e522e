package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// linkFetcher reads the links to results in the cloud's storage. It knows no token, follows no redirect, and connects to
// public addresses only, so that whoever could put a link into an answer of the workspace cannot make the worker read what
// stands near it.
type linkFetcher struct {
	workspace *url.URL        // its own address is fine, whatever it is
	named     map[string]bool // host:port that may be private
	proxies   sync.Map        // host:port of proxies that the environment names
	timeout   time.Duration
	transport *http.Transport
	log       *slog.Logger
}

func newLinkFetcher(cfg RoutesConfig) *linkFetcher {
	f := &linkFetcher{workspace: cfg.Workspace.host, named: map[string]bool{}, timeout: cfg.Workspace.cfg.Timeout, log: cfg.Log}
	for _, host := range cfg.LinkHosts {
		hp, _ := hostPort(host) // validated
		f.named[hp] = true
	}
	f.named[address(f.workspace)] = true
	f.transport = newTransport()
	f.transport.Proxy = f.proxy
	f.transport.DialContext = f.dial
	return f
}

// hostPort reads "name" or "name:port".
func hostPort(s string) (string, error) {
	u, err := url.Parse("https://" + s)
	if err != nil || u.Hostname() == "" || u.Host != s || u.User != nil {
		return "", errors.New("not a host")
	}
	return address(u), nil
}

func address(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
		if u.Scheme == "http" {
			port = "80"
		}
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// get opens a link. status is that of the storage's refusal, 0 if there was none.
func (f *linkFetcher) get(ctx context.Context, link *sqlLink, token relay.Token, retry time.Duration) (body io.ReadCloser, status int, e *relay.Error) {
	r, e := f.request(link, token)
	if e != nil {
		return nil, 0, e
	}
	deadline := time.Now().Add(retry)
	for attempt := 0; ; attempt++ {
		resp, err := watchCall(ctx, f.timeout, f.timeout, func(ctx context.Context) (*http.Response, error) {
			resp, _, err := fewTries(f.transport, r.WithContext(ctx))
			return resp, err
		})
		if err == nil && resp.StatusCode == http.StatusOK {
			return resp.Body, 0, nil
		}
		wait, again := retryAfter(r, resp, err, attempt)
		_, private := errors.AsType[*privateAddress](err)
		if again && !private && ctx.Err() == nil && !time.Now().Add(wait).After(deadline) {
			discard(resp)
			if pause(ctx, wait) {
				continue
			}
		}
		status, e := f.fault(ctx, r, resp, err)
		return nil, status, e
	}
}

// request checks a link. What is wrong with it is told without a part of it: it holds credentials.
func (f *linkFetcher) request(link *sqlLink, token relay.Token) (*http.Request, *relay.Error) {
	bad := func(what string) (*http.Request, *relay.Error) {
		return nil, relay.NewError(relay.CodeWorkspaceFailed, "the workspace's link to the result "+what)
	}
	r, err := http.NewRequest(http.MethodGet, link.Address, nil)
	if err != nil || r.URL.Hostname() == "" {
		return bad("cannot be read")
	}
	own := r.URL.Scheme == f.workspace.Scheme && address(r.URL) == address(f.workspace)
	switch {
	case r.URL.User != nil:
		return bad("carries a user name or password")
	case r.URL.Scheme != "https" && !own:
		return bad("is not https")
	case echoes(token, link.Address):
		return bad("carries the person's token")
	}
	for name, value := range link.Headers {
		if echoes(token, value) {
			return bad("wants the person's token in a header")
		}
		r.Header[http.CanonicalHeaderKey(name)] = []string{value}
	}
	relay.StripRequest(r.Header) // no Authorization, whoever wants it
	delete(r.Header, "Cookie")
	return r, nil
}

// fault tells why there is no chunk.
func (f *linkFetcher) fault(ctx context.Context, r *http.Request, resp *http.Response, err error) (int, *relay.Error) {
	defer discard(resp)
	if e, ok := ended(ctx); ok {
		return 0, e
	}
	if _, private := errors.AsType[*privateAddress](err); private {
		f.log.Warn("a link to a result was not followed: its host has a private address; if that is right name it with --sql-link-host", "host", r.URL.Hostname())
		return 0, relay.NewError(relay.CodeWorkspaceFailed, "the workspace's link to the result points to a private address; the worker's log names the host")
	}
	if err != nil {
		f.log.Warn("a link to a result could not be read", "host", r.URL.Hostname(), "reason", newCallFault(err).reason)
		return 0, relay.NewError(relay.CodeWorkspaceFailed, "the storage that holds the result cannot be reached; if the network forbids it, the operator can set --sql-inline")
	}
	e := relay.Errorf(relay.CodeWorkspaceFailed, "the storage that holds the result answered %d", resp.StatusCode)
	e.After = parseRetryAfter(resp.Header, time.Now())
	return resp.StatusCode, e
}

func (f *linkFetcher) proxy(r *http.Request) (*url.URL, error) {
	proxy, err := http.ProxyFromEnvironment(r)
	if proxy != nil {
		f.proxies.Store(address(proxy), true)
	}
	return proxy, err
}

// dial looks at the very address that is connected to, after all names are resolved.
func (f *linkFetcher) dial(ctx context.Context, network, hostPort string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	_, isProxy := f.proxies.Load(strings.ToLower(hostPort))
	if !isProxy && !f.named[strings.ToLower(hostPort)] {
		dialer.Control = func(_, resolved string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(resolved)
			if err != nil || !publicAddress(to.Addr()) {
				return &privateAddress{}
			}
			return nil
		}
	}
	return dialer.DialContext(ctx, network, hostPort)
}

type privateAddress struct{}

func (*privateAddress) Error() string { return "the address is not public" }

// notPublic are the blocks of the IANA special-purpose registries that netip has no word for, those that embed an IPv4
// address, and 168.63.129.16, where Azure serves its guests.
var notPublic = func() (blocks []netip.Prefix) {
	for _, b := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", "168.63.129.16/32", "::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23",
		"2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
	} {
		blocks = append(blocks, netip.MustParsePrefix(b))
	}
	return blocks
}()

func publicAddress(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, block := range notPublic {
		if block.Contains(ip) {
			return false
		}
	}
	return true
}
