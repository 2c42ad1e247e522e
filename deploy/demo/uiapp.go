package demo

import (
	"context"
	_ "embed"
	"errors"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// The ways in which the UI app calls the middleware app. The first three are what the user of the story tried.
const (
	WayAuthorization = "authorization"
	WayCustomHeader  = "custom-header"
	WayTokenExchange = "token-exchange"
	WayRelay         = "relay"
)

// Answer is what came back to the UI app.
type Answer struct {
	Sent     []string `json:"sent"` // request line and what carries the person's token, shortened
	Token    string   `json:"token"`
	Status   int      `json:"status"`
	Type     string   `json:"type"`
	Location string   `json:"location,omitempty"`
	Request  string   `json:"request_id,omitempty"` // the relay's id of it
	Body     string   `json:"body"`
	MS       float64  `json:"ms"` // until the answer was read
}

//go:embed uiapp.html
var uiPage string

// ui is the UI app. A person's browser comes in through the front proxy, which brings the person's token; the app wants
// to call the middleware app as that person.
type ui struct {
	front     string // the middleware app's public address: its front proxy
	sidecar   string // OBO_URL_MIDDLEWARE
	workspace string
	client    *http.Client // follows no redirect, like a program that expects JSON
}

func newUI(u ui) http.Handler {
	mux := http.NewServeMux()
	page := template.Must(template.New("").Parse(uiPage))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_ = page.Execute(w, r.Header.Get(relay.HeaderEmail)) // a caller that left is no fault of ours
	})
	mux.HandleFunc("GET /call", u.call)
	return mux
}

// call answers GET /call?way=relay&path=/whoami with an Answer.
func (u ui) call(w http.ResponseWriter, r *http.Request) {
	token := r.Header.Get(relay.HeaderAccessToken)
	path := r.URL.Query().Get("path")
	if !strings.HasPrefix(path, "/") {
		http.Error(w, "path does not begin with /", http.StatusBadRequest)
		return
	}
	request, err := u.request(r.Context(), r.URL.Query().Get("way"), path, token)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := u.do(request, token)
	if err != nil {
		http.Error(w, "the call failed: "+err.Error(), http.StatusBadGateway)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// request is what a developer would write.
func (u ui) request(ctx context.Context, way, path, token string) (*http.Request, error) {
	get := func(base string, header ...string) (*http.Request, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return nil, err
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return r, nil
	}
	switch way {
	case WayAuthorization:
		return get(u.front, "Authorization", "Bearer "+token)
	case WayCustomHeader: // the bearer is there to pass the front proxy at all
		return get(u.front, "Authorization", "Bearer "+token, "X-User-Token", token)
	case WayTokenExchange:
		return u.exchange(ctx, token)
	case WayRelay:
		if path == sqlPath {
			return u.sql(ctx, token)
		}
		return get(u.sidecar, relay.HeaderAccessToken, token)
	}
	return nil, errors.New("no such way")
}

// sqlPath is a route of the worker itself.
const sqlPath = worker.RoutesPrefix + "sql"

// sql has the worker run a statement as the person.
func (u ui) sql(ctx context.Context, token string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.sidecar+sqlPath, strings.NewReader(`{"statement":"`+statement+`"}`))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(relay.HeaderAccessToken, token)
	return r, nil
}

// exchange is an OAuth 2.0 token exchange (RFC 8693 §2.1): the person's token for one of the middleware's.
func (u ui) exchange(ctx context.Context, token string) (*http.Request, error) {
	form := url.Values{
		"grant_type":         {"urn:ietf:params:oauth:grant-type:token-exchange"},
		"subject_token":      {token},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:jwt"},
		"client_id":          {middlewareClient},
		"scope":              {"all-apis"},
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.workspace+"/oidc/v1/token", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r, nil
}

const maxAnswer = 64 << 10

func (u ui) do(r *http.Request, token string) (*Answer, error) {
	answer := &Answer{Token: fingerprint(token), Sent: []string{r.Method + " " + r.URL.String()}}
	for _, name := range []string{"Authorization", "X-User-Token", relay.HeaderAccessToken} {
		if value := r.Header.Get(name); value != "" {
			scheme := ""
			if rest, ok := strings.CutPrefix(value, "Bearer "); ok {
				scheme, value = "Bearer ", rest
			}
			answer.Sent = append(answer.Sent, name+": "+scheme+short(value))
		}
	}
	switch {
	case r.URL.Path == sqlPath:
		answer.Sent = append(answer.Sent, statement)
	case r.Method == http.MethodPost:
		answer.Sent = append(answer.Sent, "subject_token="+short(token), "client_id="+middlewareClient)
	}
	begin := time.Now()
	resp, err := u.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	answer.Status, answer.Type, answer.Body = resp.StatusCode, resp.Header.Get("Content-Type"), string(body)
	answer.MS = ms(time.Since(begin))
	answer.Request = resp.Header.Get(relay.HeaderOboID)
	if location, err := resp.Location(); err == nil {
		answer.Location = location.Scheme + "://" + location.Host + location.Path
	}
	return answer, nil
}
