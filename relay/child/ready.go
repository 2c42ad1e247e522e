package child

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// readyPoll is the pause between two looks.
	readyPoll = 50 * time.Millisecond
	// lookTimeout is how long one look may take. An app that is still loading may accept and not answer.
	lookTimeout = 5 * time.Second
)

// Readiness is what a child must answer before its parent serves.
type Readiness struct {
	URL     *url.URL      // of the child: its host and port must accept TCP. Required
	Path    string        // a GET of it must be answered with a status under 500. Defaults to no such request
	Timeout time.Duration // for it all. Defaults to 60 s
}

// Validate reports all faults at once, in the terms of the flags --ready-path and --ready-timeout.
func (r Readiness) Validate() error {
	var faults []error
	if r.Path != "" && !strings.HasPrefix(r.Path, "/") {
		faults = append(faults, fmt.Errorf("--ready-path (OBO_READY_PATH): %q does not begin with /", r.Path))
	}
	if r.Timeout < 0 {
		faults = append(faults, fmt.Errorf("--ready-timeout (OBO_READY_TIMEOUT): %v is negative", r.Timeout))
	}
	return errors.Join(faults...)
}

// wait returns nil when the child is ready, the context's error if that ends, and otherwise what is missing.
func (r Readiness) wait(ctx context.Context) error {
	if r.Timeout == 0 {
		r.Timeout = time.Minute
	}
	deadline := time.Now().Add(r.Timeout)
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	tick := time.NewTicker(readyPoll)
	defer tick.Stop()
	var missing error
	for {
		err := r.look(limited)
		if err == nil {
			return nil
		}
		if missing == nil || time.Now().Before(deadline) { // a look that was cut off says nothing
			missing = err
		}
		select {
		case <-limited.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("the app is not ready after %v: %w: see what it printed, where it listens, and --forward, --ready-path and --ready-timeout", r.Timeout, missing)
		case <-tick.C:
		}
	}
}

// look tells whether the child is ready now.
func (r Readiness) look(ctx context.Context) error {
	conn, err := (&net.Dialer{Timeout: lookTimeout}).DialContext(ctx, "tcp", r.address())
	if err != nil {
		return fmt.Errorf("nothing accepts connections at %s", r.address())
	}
	_ = conn.Close() // it was opened only to see whether it can be
	if r.Path == "" {
		return nil
	}
	return r.get(ctx)
}

func (r Readiness) get(ctx context.Context) error {
	target := r.URL.Scheme + "://" + r.URL.Host + r.Path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	client := http.Client{
		Timeout:       lookTimeout,
		Transport:     &http.Transport{DisableKeepAlives: true}, // no Proxy: it is the app that is asked
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("GET %s is not answered", target)
	}
	_ = resp.Body.Close() // the status was what mattered
	if resp.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("GET %s is answered %s", target, resp.Status)
	}
	return nil
}

func (r Readiness) address() string {
	if r.URL.Port() != "" {
		return r.URL.Host
	}
	return net.JoinHostPort(r.URL.Hostname(), r.URL.Scheme) // net knows the services http and https
}
