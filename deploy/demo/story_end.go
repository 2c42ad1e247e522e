package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// samples are how many requests the typical one is chosen from.
const samples = 31

// timeSplit measures where the time of a request goes.
func (s *story) timeSplit(ctx context.Context) {
	s.print.title(fmt.Sprintf("4  Where the time of one request goes: GET /hello with a new token, and the median of %d more", samples))
	first, again, waited, err := s.measure(ctx)
	if err != nil {
		s.check("one request, measured", err.Error(), "every part measured")
		return
	}
	s.print.line(fmt.Sprintf("%49s %10s", "first", "later"))
	slowest := slices.MaxFunc(again, func(a, b leg) int { return cmp.Compare(a.took, b.took) }).took
	for i, l := range first {
		const bar = 24
		s.print.line(fmt.Sprintf("       %-*s %4.2f ms    %4.2f ms   %s", column, l.name, ms(l.took), ms(again[i].took),
			s.print.paint(cyan, strings.Repeat("▪", max(1, int(bar*again[i].took/slowest))))))
	}
	s.expect("sum, and what the caller waited", fmt.Sprintf("%.2f ms and %.2f ms", ms(total(first)), ms(waited)),
		total(first) == waited && waited > 0, "the same")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// measure times the first request with a token, and the middle one of those that follow.
func (s *story) measure(ctx context.Context) (first, again []leg, waited time.Duration, err error) {
	token, err := s.stage.Token(VisitorAlice)
	if err != nil {
		return nil, nil, 0, err
	}
	if first, waited, err = s.stage.timed(ctx, token); err != nil {
		return nil, nil, 0, err
	}
	again, err = s.stage.median(ctx, token, samples)
	return first, again, waited, err
}

// principals shows whose tokens the workspace was called with.
func (s *story) principals(ctx context.Context) {
	s.print.title("5  As whom the workspace was asked")
	calls := s.stage.Workspace.Calls().To("/api/")
	for _, user := range []string{Alice, Bob} {
		n := calls.By(user).Answered(http.StatusOK).Count()
		s.expect("as "+user, fmt.Sprintf("%d calls", n), n > 0, "at least 1 call")
	}
	s.check("as a service principal", fmt.Sprintf("%d calls", s.stage.Workspace.Calls().ByServicePrincipals().Count()), "0 calls")
	s.check("as nobody known", fmt.Sprintf("%d calls", calls.By("").Count()), "0 calls")
	got := "1 call is counted"
	if err := s.stage.signInAsService(ctx); err != nil {
		got = err.Error()
	} else if n := s.stage.Workspace.Calls().ByServicePrincipals().Count(); n != 1 {
		got = fmt.Sprintf("%d calls are counted", n)
	}
	s.check("control: one does sign in", got, "1 call is counted")
}

// signInAsService obtains a token for the middleware app's own service principal (RFC 6749 §4.4), which no person's
// request ever does.
func (s *Stage) signInAsService(ctx context.Context) error {
	app, ok := s.Workspace.App(middlewareApp)
	if !ok {
		return errors.New("no such app")
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Workspace.URL()+"/oidc/v1/token", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(app.ClientID), url.QueryEscape(app.ClientSecret))
	resp, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the workspace answered %s", resp.Status)
	}
	return nil
}
