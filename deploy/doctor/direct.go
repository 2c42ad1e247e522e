package doctor

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// What came of a call straight to the other app's front door.
type passage string

const (
	carried   passage = "carried"     // the person's own token arrived
	lost      passage = "lost"        // the call arrived, the token did not
	replaced  passage = "replaced"    // another token arrived
	signIn    passage = "sign-in"     // the front proxy does not take the token
	forbidden passage = "forbidden"   // the person may not use the app
	noProbe   passage = "no probe"    // nobody answered what arrived
	noAnswer  passage = "unreachable" //
)

// direct probes whether the platform brings the person's token to the other app without a relay.
func (d *doctor) direct(ctx context.Context) {
	d.RelayNeeded = NeededUnknown
	base, err := url.Parse(d.cfg.Direct)
	if err != nil || base.Host == "" || base.User != nil || base.Scheme != "https" && !(base.Scheme == "http" && relay.LoopbackHost(base.Host)) {
		d.fail("direct", "--direct is not the https URL of an app", "Give the URL under which the app's page opens, for example https://middleware-1234567890123456.7.azure.databricksapps.com")
		return
	}
	if d.token.IsZero() {
		d.skip("direct", "it takes a token that has not expired")
		return
	}
	api, apiDetail := d.probe(ctx, base, worker.ProbePathAPI)
	other, otherDetail := d.probe(ctx, base, worker.ProbePath)
	facts := map[string]string{worker.ProbePathAPI: string(api), worker.ProbePath: string(other)}
	detail := fmt.Sprintf("the person's token straight to %s: under /api/ %s, elsewhere %s", base.Host, apiDetail, otherDetail)
	check := Check{Name: "direct", Verdict: OK, Facts: facts}
	decided := func(p passage) bool { return p == carried || p == lost || p == replaced || p == signIn }
	switch {
	case api == carried && other == carried:
		d.RelayNeeded, detail = NeededNo, detail+". The relay is NOT needed here: send Authorization: Bearer <the person's token> to that app"
	case api == carried && decided(other):
		d.RelayNeeded, detail = NeededOutside, detail+". The relay is NOT needed for routes under /api/: send them Authorization: Bearer <the person's token>. For all others it is"
	case decided(api) && decided(other) && (api != signIn || other != signIn):
		d.RelayNeeded, detail = NeededYes, detail+". The relay is needed"
	case api == signIn && other == signIn:
		check.Verdict, check.Remedy = Warning, "The front proxy takes no token of this kind: ask again with one that the platform has given the UI app. If that is refused too, the relay is needed"
	default:
		check.Verdict, check.Remedy = Warning, "It cannot be told. Let the app answer GET "+worker.ProbePathAPI+" and "+worker.ProbePath+" (deploy/README.md has five lines for FastAPI; obo-worker --front does by itself), and let the person use the app"
	}
	if c, ok := d.claims(); ok && c.ClientID == cliClient && check.Verdict == OK {
		check.Verdict, check.Remedy = Warning, "This was a token of the Databricks CLI, which the platform may treat differently: ask again with one that it has given the UI app"
	}
	check.Detail = detail
	d.add(check)
}

// probe asks the receiver what it got.
func (d *doctor) probe(ctx context.Context, base *url.URL, path string) (passage, string) {
	ctx, cancel := d.timeout(ctx)
	defer cancel()
	salt := rand.Text()
	u := *base
	u.Path, u.RawQuery = strings.TrimSuffix(u.Path, "/")+path, url.Values{"salt": {salt}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return noAnswer, "it cannot be asked"
	}
	request.Header.Set("Authorization", "Bearer "+d.token.Reveal())
	request.Header.Set("Accept", "application/json")
	response, err := plainClient().Do(request)
	if err != nil {
		return noAnswer, "nobody answers (" + withoutURL(err) + ")"
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	var said worker.ProbeAnswer
	switch {
	case response.StatusCode/100 == 3 && ownRedirect(response):
		return noProbe, fmt.Sprintf("the app sends it on to another path of its own (%d)", response.StatusCode)
	case response.StatusCode == http.StatusUnauthorized || response.StatusCode/100 == 3:
		return signIn, fmt.Sprintf("it is sent to the sign-in page (%d)", response.StatusCode)
	case response.StatusCode == http.StatusForbidden:
		return forbidden, "it is refused (403)"
	case err != nil || response.StatusCode != http.StatusOK || json.Unmarshal(body, &said) != nil || len(said.Hash) != 64:
		return noProbe, fmt.Sprintf("nobody says what arrived (%d)", response.StatusCode)
	case !said.Present:
		return lost, "it is lost on the way"
	case said.Hash != worker.HashToken(salt, d.token.Reveal()):
		return replaced, "another token arrives"
	}
	return carried, "it arrives"
}

// ownRedirect reports whether an app leads to itself, for a slash say. The sign-in page is the workspace's.
func ownRedirect(response *http.Response) bool {
	to, err := response.Location()
	return err == nil && to.Host == response.Request.URL.Host && !strings.HasPrefix(to.Path, "/.auth") && !strings.HasPrefix(to.Path, "/oidc")
}
