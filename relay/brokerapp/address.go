package brokerapp

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// Path is where a broker app takes NATS over WebSocket, and tells about itself. The platform lets bearer tokens in under
// /api/ only.
const Path = "/api/nats"

const appScheme = "app:"

// appName is the platform's rule for names of apps.
var appName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$`)

// Is tells addresses of broker apps, app:NAME and https://HOST, from other NATS URLs.
func Is(address string) bool {
	address = strings.ToLower(strings.TrimSpace(address))
	for _, scheme := range []string{appScheme, "https:", "http:"} {
		if strings.HasPrefix(address, scheme) {
			return true
		}
	}
	return false
}

// CheckAddress reports what is wrong with the address of a broker app.
func CheckAddress(address string) error {
	_, _, err := parseAddress(address)
	return err
}

// parseAddress returns the name of an app, or where it is. Errors do not quote a URL, which may hold a password.
func parseAddress(address string) (name string, at *url.URL, err error) {
	address = strings.TrimSpace(address)
	if len(address) >= len(appScheme) && strings.EqualFold(address[:len(appScheme)], appScheme) {
		name := address[len(appScheme):]
		if !appName.MatchString(name) {
			return "", nil, fmt.Errorf("%q is not the name of an app: want app: and then 1 to 30 lower-case letters, digits and hyphens, for example app:obo-broker", name)
		}
		return name, nil, nil
	}
	at, err = parseURL(address)
	if err != nil {
		return "", nil, err
	}
	if at.Path == "" || at.Path == "/" {
		at.Path = Path
	}
	return "", at, nil
}

// ParseHost reads the address of a workspace as the platform gives it, perhaps without https://.
func ParseHost(host string) (*url.URL, error) {
	host = strings.TrimSpace(host)
	if host == "" {
		return nil, errors.New("the workspace's address is missing")
	}
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	u, err := parseURL(host)
	if err != nil {
		return nil, fmt.Errorf("the workspace's address: %w", err)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// parseURL wants a place that a token may be sent to.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		return nil, errors.New("this is not a URL: want for example https://obo-broker-1234567890123456.7.azure.databricksapps.com")
	case u.User != nil:
		return nil, errors.New("the URL holds a user name or password: leave it out")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("the URL has more than host and path: leave the rest out")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, errors.New("the URL is http: tokens are sent in clear to loopback addresses only, write https")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("the URL has scheme %q: want https", u.Scheme)
	}
	return u, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
