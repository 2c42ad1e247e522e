package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// attempts are what the user of the story tried.
func (s *story) attempts(ctx context.Context) {
	s.print.title("1  Without the relay: alice's UI app calls the middleware app through the front proxy")
	for _, a := range []struct{ way, what, want string }{
		{WayAuthorization, "Authorization: Bearer <her token>", "200 with Authorization empty: no token, no groups"},
		{WayCustomHeader, "X-User-Token: <her token>", "200 with X-User-Token missing: no token, no groups"},
		{WayTokenExchange, "OAuth token exchange", "403 Client authentication failed: user 'middleware_client_id' is not a member of workspace"},
	} {
		answer, err := s.stage.Call(ctx, VisitorAlice, a.way, "/whoami")
		if err != nil {
			s.check(a.what, err.Error(), a.want)
			continue
		}
		s.check(a.what, lost(a.way, answer), a.want)
	}
}

// lost says in words what an attempt came to.
func lost(way string, a *Answer) string {
	if way == WayTokenExchange {
		var e struct {
			Description string `json:"error_description"`
		}
		_ = json.Unmarshal([]byte(a.Body), &e) // what is no JSON shows as nothing
		return fmt.Sprintf("%d %s", a.Status, e.Description)
	}
	seen, err := a.seen()
	if err != nil {
		return fmt.Sprintf("%d %s", a.Status, err)
	}
	header, state := "Authorization", "empty"
	if way == WayCustomHeader {
		header, state = "X-User-Token", "missing"
	}
	if seen.Header[header] != "" {
		state = "arrived"
	}
	token, groups := "no token", "no groups"
	if seen.Token != "" {
		token = "a token"
	}
	if len(seen.Groups) > 0 {
		groups = "groups " + strings.Join(seen.Groups, ", ")
	}
	return fmt.Sprintf("%d with %s %s: %s, %s", a.Status, header, state, token, groups)
}

// seen is what the middleware app answered at /whoami.
func (a *Answer) seen() (*Seen, error) {
	seen := new(Seen)
	if err := json.Unmarshal([]byte(a.Body), seen); err != nil {
		return nil, fmt.Errorf("not the middleware app's JSON but %s", a.Type)
	}
	return seen, nil
}

// relayed are the same calls by way of the relay, for both people. It ends early, with false, if none gets through.
func (s *story) relayed(ctx context.Context) bool {
	s.print.title("2  Through the relay: the same UI app calls its sidecar with the token it was given")
	for _, person := range []struct{ visitor, user, report, forecast, rows string }{
		{VisitorAlice, Alice, "200 42 rows", "200 up", "200 emea 10, amer 20"},
		{VisitorBob, Bob, "403 for data-admins only", "403 forbidden", "200 emea 10"},
	} {
		who := person.visitor + ": "
		if !s.whoami(ctx, who, person.visitor, person.user) {
			return false
		}
		answer, err := s.stage.Call(ctx, person.visitor, WayRelay, "/groups")
		s.check(who+"GET /groups", outcome(answer, err), "200 "+strings.Join(groupsOf(person.user), ", "))
		answer, err = s.stage.Call(ctx, person.visitor, WayRelay, "/admin/report")
		s.check(who+"GET /admin/report", outcome(answer, err), person.report)
		answer, err = s.stage.Call(ctx, person.visitor, WayRelay, "/finance/forecast")
		got := outcome(answer, err)
		s.expect(who+"policy on /finance/", got, got == person.forecast || strings.HasPrefix(got, person.forecast+": "), person.forecast)
		answer, err = s.stage.Call(ctx, person.visitor, WayRelay, sqlPath)
		s.check(who+statement, rows(answer, err), person.rows)
	}
	s.stream(ctx)
	s.flaws(ctx)
	return true
}

// flaws are tokens that do not count; each is told so that the developer knows what to do.
func (s *story) flaws(ctx context.Context) {
	for _, flaw := range []struct{ visitor, what, want string }{
		{VisitorExpired, "alice: page left open too long", "401 token_expired"},
		{VisitorNoScope, "alice: token lacks a scope", "403 scope_missing"},
	} {
		answer, err := s.stage.Call(ctx, flaw.visitor, WayRelay, "/groups")
		got := outcome(answer, err)
		s.expect(flaw.what, got, strings.HasPrefix(got, flaw.want+": "), flaw.want)
	}
}

// whoami reports whether the middleware app answered at all.
func (s *story) whoami(ctx context.Context, who, visitor, user string) bool {
	wantSeen := user + ", with the token that the UI app has"
	wantGroups := strings.Join(groupsOf(user), ", ")
	answer, err := s.stage.Call(ctx, visitor, WayRelay, "/whoami")
	var seen *Seen
	if err == nil && answer.Status == http.StatusOK {
		seen, err = answer.seen()
	}
	if seen == nil || err != nil {
		s.check(who+"the middleware app sees", outcome(answer, err), wantSeen)
		return false
	}
	got := seen.Email + ", without a token"
	switch {
	case seen.Token != "" && seen.Token == answer.Token:
		got = seen.Email + ", with the token that the UI app has"
	case seen.Token != "":
		got = seen.Email + ", with another token than the UI app's"
	}
	s.check(who+"the middleware app sees", got, wantSeen)
	s.check(who+"groups, says the workspace", strings.Join(seen.Groups, ", ")+seen.Error, wantGroups)
	return true
}

// outcome says in words what the middleware app, or the relay, answered.
func outcome(a *Answer, err error) string {
	if a == nil {
		return err.Error()
	}
	var body struct {
		Groups              []string
		Report, Error, Code string
		Detail              string
	}
	if json.Unmarshal([]byte(a.Body), &body) != nil {
		return fmt.Sprintf("%d %s", a.Status, a.Type)
	}
	text := strings.Join(body.Groups, ", ") + body.Report + body.Error
	if body.Code != "" {
		text += body.Code + ": " + body.Detail
	}
	return fmt.Sprintf("%d %s", a.Status, text)
}

// rows shows what the SQL route answered: a JSON object a line.
func rows(a *Answer, err error) string {
	if err != nil || a.Status != http.StatusOK {
		return outcome(a, err)
	}
	var all []string
	for line := range strings.Lines(a.Body) {
		var row struct {
			Region string
			Amount int
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			return "not a row: " + line
		}
		all = append(all, fmt.Sprint(row.Region, " ", row.Amount))
	}
	return fmt.Sprint(a.Status, " ", strings.Join(all, ", "))
}

// stream reads server-sent events as they come.
func (s *story) stream(ctx context.Context) {
	const what, want = "alice: GET /stream", "5 events, the first before the last was sent"
	events, spread, err := s.stage.events(ctx, VisitorAlice)
	got := fmt.Sprintf("%d events, all at once", events)
	switch {
	case err != nil:
		got = err.Error()
	case spread > 0:
		got = fmt.Sprintf("%d events, the first before the last was sent", events)
	}
	s.check(what, got, want)
}

// events counts the events of /stream, and the time from the first to the last.
func (s *Stage) events(ctx context.Context, visitor string) (events int, spread time.Duration, err error) {
	token, err := s.Token(visitor)
	if err != nil {
		return 0, 0, err
	}
	s.tokens.add(token)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Sidecar+"/stream", nil)
	if err != nil {
		return 0, 0, err
	}
	r.Header.Set(relay.HeaderAccessToken, token)
	resp, err := s.client.Do(r)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	var first, last time.Time
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "data: ") {
			continue
		}
		last = time.Now()
		if events++; events == 1 {
			first = last
		}
	}
	if spread = last.Sub(first); spread < streamPause {
		spread = 0 // five events that came together
	}
	return events, spread, lines.Err()
}
