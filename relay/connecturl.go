package relay

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

// redactURLs drops user, password and token from each URL of a list.
func redactURLs(list string) string {
	if strings.HasPrefix(list, "app:") && brokerapp.CheckAddress(list) == nil {
		return list
	}
	parts := strings.Split(list, ",")
	from := 0 // the first that may be shown
	for i := range parts {
		if torn(parts, i) {
			from = i
		}
	}
	parts = parts[from:]
	for i, p := range parts {
		scheme, rest, ok := strings.Cut(p, "://")
		if !ok {
			scheme, rest = "nats", p
		}
		parts[i] = strings.TrimSpace(scheme) + "://" + rest[strings.LastIndex(rest, "@")+1:]
	}
	return strings.Join(parts, ",")
}

// torn reports whether a part of a list of URLs looks like the end of one whose password, or token, holds a comma: what stands
// before it may be secret.
func torn(parts []string, i int) bool {
	return i > 0 && strings.Contains(parts[i], "@") && !strings.Contains(parts[i], "://") && !strings.Contains(parts[i-1], "@")
}

// checkURLs reports what is wrong with the URLs of a list. None of it shows what may be a password.
func checkURLs(list string) (faults []error) {
	parts := strings.Split(list, ",")
	for i, p := range parts {
		p = strings.TrimSpace(p)
		if torn(parts, i) {
			faults = append(faults, errors.New("the NATS URLs, between which stand commas: write a comma in a password as %2C, and nats:// before each URL"))
			continue
		}
		if brokerapp.Is(p) {
			continue
		}
		if !strings.Contains(p, "://") {
			p = "nats://" + p
		}
		if u, err := url.Parse(p); err == nil {
			if !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) { // nats.go connects without TLS to any other
				faults = append(faults, errors.New("the scheme of a NATS URL is none of nats, tls, ws, wss and app"))
			}
			continue
		}
		// The error's text holds the URL, and that may hold a password; so may what was cut off at a comma.
		if !strings.Contains(p, "@") && strings.Contains(list, "@") {
			faults = append(faults, errors.New("one of the NATS URLs, between which stand commas, is not a URL: write a comma in a password as %2C"))
			continue
		}
		faults = append(faults, fmt.Errorf("%s is not a URL", redactURLs(p)))
	}
	return faults
}
