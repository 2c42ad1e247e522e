package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// Seen is what the middleware app knows of a request: its answer at /whoami.
type Seen struct {
	Email  string            `json:"email"`
	Token  string            `json:"token"`  // fingerprint of the person's token; empty without one
	Groups []string          `json:"groups"` // as the workspace reports them for that token
	Error  string            `json:"error,omitempty"`
	Header map[string]string `json:"header"` // as received, secrets shortened
}

// middleware is the middleware app: plain net/http, it does not know of the relay. Whoever the person is, and whatever
// the person may do, it learns from the person's own token.
type middleware struct {
	workspace string // base URL
	client    *http.Client
}

func newMiddleware(workspace string, client *http.Client) http.Handler {
	m := &middleware{workspace, client}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") })
	mux.Handle("GET /{$}", http.RedirectHandler("/whoami", http.StatusFound)) // for who opens it in a browser
	mux.HandleFunc("GET /whoami", m.whoami)
	mux.HandleFunc("GET /groups", m.groups)
	mux.HandleFunc("GET /admin/report", m.report)
	mux.HandleFunc("GET /finance/forecast", func(w http.ResponseWriter, _ *http.Request) { // guarded by the worker's policy
		writeJSON(w, http.StatusOK, map[string]string{"report": "up"})
	})
	mux.HandleFunc("GET /stream", m.stream)
	return mux
}

// whoami echoes what arrived.
func (m *middleware) whoami(w http.ResponseWriter, r *http.Request) {
	token := r.Header.Get(relay.HeaderAccessToken)
	seen := Seen{Email: r.Header.Get(relay.HeaderEmail), Token: fingerprint(token), Header: map[string]string{}}
	for name, values := range r.Header {
		seen.Header[name] = showHeader(name, strings.Join(values, ", "))
	}
	var err error
	if seen.Groups, err = m.groupsOf(r.Context(), token); err != nil {
		seen.Error = err.Error()
	}
	writeJSON(w, http.StatusOK, seen)
}

// showHeader shortens the values that somebody else could use.
func showHeader(name, value string) string {
	switch name {
	case "Authorization", "Cookie", "X-User-Token", relay.HeaderAccessToken:
		return short(value)
	}
	return value
}

func (m *middleware) groups(w http.ResponseWriter, r *http.Request) {
	groups, err := m.groupsOf(r.Context(), r.Header.Get(relay.HeaderAccessToken))
	if err != nil {
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"email": r.Header.Get(relay.HeaderEmail), "groups": groups})
}

// report is for one group only.
func (m *middleware) report(w http.ResponseWriter, r *http.Request) {
	groups, err := m.groupsOf(r.Context(), r.Header.Get(relay.HeaderAccessToken))
	switch {
	case err != nil:
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": err.Error()})
	case !slices.Contains(groups, groupAdmins):
		writeJSON(w, http.StatusForbidden, map[string]string{"error": "for " + groupAdmins + " only"})
	default:
		writeJSON(w, http.StatusOK, map[string]string{"report": "42 rows"})
	}
}

// streamPause is between two events of the stream.
const streamPause = 20 * time.Millisecond

// stream sends server-sent events.
func (m *middleware) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	tick := time.NewTicker(streamPause)
	defer tick.Stop()
	for n := 1; n <= 5; n++ {
		fmt.Fprintf(w, "data: row %d\n\n", n)
		if out.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// groupsOf asks the workspace, as the person: SCIM Me (RFC 7644 §3.11) with the person's token.
func (m *middleware) groupsOf(ctx context.Context, token string) ([]string, error) {
	if token == "" {
		return nil, errors.New("no person's token arrived")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, m.workspace+"/api/2.0/preview/scim/v2/Me?attributes=groups", nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := m.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the workspace answered %s", resp.Status)
	}
	var me struct {
		Groups []struct{ Display string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&me); err != nil {
		return nil, fmt.Errorf("the workspace's answer: %w", err)
	}
	groups := []string{}
	for _, g := range me.Groups {
		groups = append(groups, g.Display)
	}
	return groups, nil
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a caller that left is no fault of ours
}
