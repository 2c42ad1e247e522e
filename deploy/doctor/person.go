package doctor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/relay/version"
	"github.com/obo-relay/obo-relay/worker"
)

const (
	scopeMe  = "iam.current-user:read"
	scopeAll = "all-apis"
	// cliClient is the OAuth client of tokens that the Databricks CLI obtains.
	cliClient = "databricks-cli"

	soonExpired = 5 * time.Minute
	// noticeable is a clock's difference that is said although it is allowed.
	noticeable = 5 * time.Second
)

// person looks at the token and at what the workspace says of it.
func (d *doctor) person(ctx context.Context) {
	if d.userAuthorization() && d.checkToken() {
		d.scopes()
	}
	workspace := d.workspace(ctx)
	if workspace == nil {
		return
	}
	defer workspace.Close()
	if d.token.IsZero() {
		d.skip("person", "it takes a token that has not expired")
		return
	}
	d.me(ctx, workspace)
}

// userAuthorization tells whether the platform hands the person's token out at all.
func (d *doctor) userAuthorization() bool {
	if d.cfg.Token != "" {
		d.ok("user authorization", "there is an access token, from "+d.cfg.TokenFrom)
		return true
	}
	d.warn("user authorization", "no access token: none in "+d.cfg.TokenFrom,
		"Pipe in the X-Forwarded-Access-Token of a request, or let obo-doctor --serve auto be the app's command and open the app. If requests have none, switch on user authorization for the app, add a scope, and start it again; where that says \"user token passthrough not enabled\", a workspace admin enables On-Behalf-Of User Authorization for Databricks Apps under Previews. On a laptop: databricks auth token")
	d.skip("token", "there is none")
	return false
}

// checkToken looks at the token's form and remaining life.
func (d *doctor) checkToken() bool {
	token, err := relay.NewToken(d.cfg.Token)
	if err != nil {
		d.failError("token", err)
		return false
	}
	now := d.cfg.Now()
	left := token.Expiry().Sub(now).Round(time.Second)
	switch {
	case token.Opaque() && !d.cfg.OpaqueTokens:
		d.failError("token", relay.NewError(relay.CodeTokenOpaque, "the access token is not a JWT with an expiry"))
		return false
	case token.Opaque():
		d.warn("token", "opaque: only the workspace can tell when it expires", "Use the person's OAuth token where there is one")
	case token.ExpiredAt(now):
		d.failError("token", relay.Errorf(relay.CodeTokenExpired, "the access token expired %v ago", -left))
		return false
	case left < soonExpired:
		d.warn("token", fmt.Sprintf("it expires in %v", left), relay.CodeTokenExpired.Info().Remedy)
	default:
		d.ok("token", fmt.Sprintf("it lives for another %v", left))
	}
	d.token = token
	return true
}

// claims are those of the token that say what it is for. Only the workspace can tell whether they are true.
type claims struct {
	Scope    string   `json:"scope"`
	Scopes   []string `json:"scp"`
	ClientID string   `json:"client_id"`
}

func (d *doctor) claims() (c claims, ok bool) {
	parts := strings.Split(d.token.Reveal(), ".")
	if len(parts) != 3 {
		return c, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return c, false
	}
	c.Scopes = append(c.Scopes, strings.Fields(c.Scope)...)
	return c, true
}

func (d *doctor) scopes() {
	c, ok := d.claims()
	if !ok || len(c.Scopes) == 0 {
		d.warn("scopes", "the token does not name its scopes", "See below whether the workspace accepts it; compare the app's user authorization with what its code calls")
		return
	}
	held := strings.Join(c.Scopes, " ")
	if slices.Contains(c.Scopes, scopeAll) {
		d.warn("scopes", held+": a token for everything, as the Databricks CLI obtains it", "A scope that the app lacks does not show with it: look again with a token that the platform gave the app")
		return
	}
	var missing []string
	for _, want := range append([]string{scopeMe}, d.cfg.Scopes...) {
		if !slices.Contains(c.Scopes, want) {
			missing = append(missing, want)
		}
	}
	if len(missing) > 0 {
		d.fail("scopes", "the token lacks "+strings.Join(missing, " ")+"; it has "+held, relay.CodeScopeMissing.Info().Remedy)
		return
	}
	d.ok("scopes", held)
}

// workspace looks whether it can be reached, and compares clocks. It is the client that the worker would have, nil if there
// is nothing to ask.
func (d *doctor) workspace(ctx context.Context) *worker.Workspace {
	const remedy = "Correct --workspace (OBO_WORKSPACE, DATABRICKS_HOST), or let the network policy of the app allow it"
	if d.cfg.Workspace == "" {
		d.warn("workspace", "nothing says which workspace", "Give it with --workspace; on the platform DATABRICKS_HOST says it")
		return nil
	}
	workspace, err := worker.NewWorkspace(worker.WorkspaceConfig{Host: d.cfg.Workspace, UserAgent: "obo-doctor/" + version.Build(), RetryTimeout: -1, Clock: d.cfg.Now})
	if err != nil {
		d.fail("workspace", err.Error(), remedy)
		return nil
	}
	host := d.cfg.Workspace
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	ctx, cancel := d.timeout(ctx)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(host, "/")+"/", nil)
	if err != nil {
		d.fail("workspace", "its address is not a URL", remedy)
		return nil
	}
	asked := d.cfg.Now()
	response, err := plainClient().Do(request)
	if err != nil {
		d.fail("workspace", withoutURL(err), remedy)
		return nil
	}
	_ = response.Body.Close() // the head is enough
	d.ok("workspace", request.URL.Host+" answers")
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		d.clock("the workspace's", date.Sub(asked), d.cfg.Now().Sub(asked)+time.Second)
	}
	return workspace
}

// clock judges by how much another clock is ahead, within what the measurement cannot tell.
func (d *doctor) clock(whose string, ahead, blur time.Duration) {
	off := max(ahead-blur, -ahead-blur, 0).Round(time.Second)
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	remedy := relay.CodeClockSkew.Info().Remedy
	switch {
	case off > relay.Leeway:
		d.fail("clock", fmt.Sprintf("%s clock is %v %s this one", whose, off, direction), remedy)
	case off > noticeable:
		d.warn("clock", fmt.Sprintf("%s clock is %v %s this one", whose, off, direction), remedy)
	default:
		d.ok("clock", whose+" and this one agree")
	}
}

// me asks the workspace as the person.
func (d *doctor) me(ctx context.Context, workspace *worker.Workspace) {
	ctx, cancel := d.timeout(ctx)
	defer cancel()
	user, err := workspace.Me(ctx, d.token)
	if err != nil {
		d.failError("person", err)
		return
	}
	d.user = user
	d.ok("person", fmt.Sprintf("the workspace says %s, in %d groups", user.UserName, len(user.Groups)))
}

// plainClient follows no redirect and keeps no connection.
func plainClient() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
