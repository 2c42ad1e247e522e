package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/obo-relay/obo-relay/relay"
)

// How a call ended, for the page.
const (
	stateArrived = "arrived" // the middleware app knows the person
	stateDenied  = "denied"  // it does, and does not let the person do this
	stateLost    = "lost"    // the person was lost on the way
	stateRefused = "refused" // the relay says why this token does not count
)

// pageCall is one call as the page shows it.
type pageCall struct {
	Title   string            `json:"title"`
	State   string            `json:"state"`
	Status  int               `json:"status"`
	Verdict string            `json:"verdict"`
	Sent    []string          `json:"sent"`
	Missing string            `json:"missing,omitempty"` // header that should have arrived
	Header  map[string]string `json:"header,omitempty"`  // as the middleware app received them
	Body    string            `json:"body,omitempty"`
	MS      float64           `json:"ms"`
}

// calls answers POST /api/calls?visitor=alice: the three attempts, and the same through the relay.
func (p *page) calls(w http.ResponseWriter, r *http.Request) {
	who := r.URL.Query().Get("visitor")
	if !slices.Contains(visitors(), who) {
		http.Error(w, "no such visitor", http.StatusNotFound)
		return
	}
	attempts := []pageCall{
		p.attempt(r.Context(), who, WayAuthorization, "Authorization: Bearer", "Authorization"),
		p.attempt(r.Context(), who, WayCustomHeader, "A header of our own", "X-User-Token"),
		p.attempt(r.Context(), who, WayTokenExchange, "OAuth token exchange", ""),
	}
	var relayed []pageCall
	for _, path := range []string{"/whoami", "/groups", "/admin/report"} {
		call := p.relayed(r.Context(), who, path)
		relayed = append(relayed, call)
		if call.State == stateRefused {
			break // it concerns the token, so the others would say the same
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"visitor": who, "attempts": attempts, "relay": relayed})
}

func newPageCall(title string, a *Answer, err error) pageCall {
	if err != nil {
		return pageCall{Title: title, State: stateLost, Verdict: "The call failed: " + err.Error()}
	}
	return pageCall{Title: title, Status: a.Status, Sent: a.Sent, MS: a.MS}
}

// attempt is one of the ways without the relay.
func (p *page) attempt(ctx context.Context, who, way, title, header string) pageCall {
	a, err := p.stage.Call(ctx, who, way, "/whoami")
	c := newPageCall(title, a, err)
	if err != nil {
		return c
	}
	c.State = stateLost
	if a.Location != "" {
		c.Verdict = "The front proxy answers with the way to its sign-in page."
		c.Body = "Location: " + a.Location
		return c
	}
	if way == WayTokenExchange {
		var e struct {
			Error       string `json:"error"`
			Description string `json:"error_description"`
		}
		_ = json.Unmarshal([]byte(a.Body), &e) // what is no JSON shows as nothing
		c.Verdict, c.Body = "The workspace refuses to exchange the token.", e.Error+": "+e.Description
		return c
	}
	seen, err := a.seen()
	if err != nil {
		c.Verdict = err.Error()
		return c
	}
	c.Header = seen.Header
	if seen.Token != "" {
		c.State, c.Verdict = stateArrived, "The person's token arrived."
		return c
	}
	c.Missing = header
	c.Verdict = fmt.Sprintf("%s did not arrive. Without a token the app cannot ask for the groups of %s.", header, seen.Email)
	return c
}

// relayed is a call through the relay.
func (p *page) relayed(ctx context.Context, who, path string) pageCall {
	a, err := p.stage.Call(ctx, who, WayRelay, path)
	c := newPageCall("GET "+path, a, err)
	if err != nil {
		return c
	}
	if strings.HasPrefix(a.Type, "application/problem+json") {
		var problem relay.Problem
		_ = json.Unmarshal([]byte(a.Body), &problem) // what is no JSON shows as nothing
		c.State, c.Verdict, c.Body = stateRefused, problem.Title+".", string(problem.Code)+": "+problem.Detail
		return c
	}
	if path == "/whoami" {
		return whoami(c, a)
	}
	c.State, c.Body = stateArrived, strings.TrimSpace(a.Body)
	switch a.Status {
	case http.StatusOK:
		c.Verdict = "Allowed."
		if path == "/groups" {
			c.Verdict = "The workspace's answer, asked as the person."
		}
	case http.StatusForbidden:
		c.State, c.Verdict = stateDenied, "Denied by the middleware app: the person is not in "+groupAdmins+"."
	}
	return c
}

func whoami(c pageCall, a *Answer) pageCall {
	seen, err := a.seen()
	if err != nil {
		c.State, c.Verdict = stateLost, err.Error()
		return c
	}
	c.Header = seen.Header
	c.State, c.Verdict = stateLost, "No token, or another one, arrived."
	if seen.Token != "" && seen.Token == a.Token {
		c.State = stateArrived
		c.Verdict = fmt.Sprintf("The middleware app acts as %s, with the very token that the UI app has. Groups: %s.",
			seen.Email, strings.Join(seen.Groups, ", "))
	}
	return c
}
