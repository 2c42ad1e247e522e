package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"time"
)

// Config describes a [Workspace]. The zero value is a workspace without people.
type Config struct {
	// ID is the workspace id, the audience of its tokens.
	// Defaults to "1234567890123456".
	ID string

	// URL is the workspace's base URL, such as "http://127.0.0.1:8080": the
	// issuer of its tokens, and where a front proxy sends a browser to sign in.
	// Set by [Workspace.Listen] and [Workspace.SetURL].
	// Defaults to "http://workspace.sandbox.invalid".
	URL string

	// Users are the people of the workspace.
	Users []User

	// Groups need to be listed only for an id of their own or to be a member of
	// other groups; a group named by a user exists.
	Groups []Group

	// ServicePrincipals beside those of Apps.
	ServicePrincipals []ServicePrincipal

	// Apps are the Databricks Apps of the workspace; each brings its service
	// principal, as on the platform.
	Apps []App

	// Tables that SQL statements can read.
	Tables []Table

	// Warehouses are the ids that statements may name. Defaults to any.
	Warehouses []string

	// ChunkRows is the number of rows in a chunk of a statement's result.
	// Defaults to 50,000.
	ChunkRows int

	// TokenLifetime is how long a token lives when its [TokenOptions] do not
	// say. Defaults to one hour.
	TokenLifetime time.Duration

	// Now is the clock. Defaults to time.Now.
	Now func() time.Time

	// Log gets one debug line per API call, never a token.
	// Defaults to a logger that discards.
	Log *slog.Logger
}

// User is a person of the workspace.
type User struct {
	// UserName is the SCIM userName, an e-mail address. Required.
	UserName string
	// ID is numeric, as a string. Defaults to a number derived from UserName.
	ID string
	// DisplayName defaults to UserName.
	DisplayName string
	// Emails, the first is the primary one. Defaults to UserName.
	Emails []string
	// Groups are the names of the groups the user is a direct member of.
	Groups []string
}

// Group is a group of the workspace.
type Group struct {
	// Name is the group's display name. Required.
	Name string
	// ID is numeric, as a string. Defaults to a number derived from Name.
	ID string
	// MemberOf are the names of the groups that this group is a member of. Its
	// own members are their indirect members.
	MemberOf []string
}

// ServicePrincipal is a principal that is not a person.
type ServicePrincipal struct {
	// ClientID is the application id, its OAuth client id. Required.
	ClientID string
	// Secret is its OAuth secret. Without one it cannot obtain tokens at the
	// token endpoint.
	Secret string
	// DisplayName defaults to ClientID.
	DisplayName string
	// Groups are the names of the groups it is a direct member of.
	Groups []string
}

// App is a Databricks App of the workspace.
type App struct {
	// Name is the app's name: lower-case letters, digits and hyphens. Required.
	Name string
	// ClientID of the app's service principal. Defaults to a UUID derived from
	// Name.
	ClientID string
	// ClientSecret of the app's service principal. Defaults to a random one.
	ClientSecret string
	// UserAuthorization is the platform's switch of that name: only with it does
	// the front proxy hand the person's token to the app.
	UserAuthorization bool
	// Scopes of the person's token, in addition to the default
	// iam.current-user:read and iam.access-control:read.
	Scopes []string
	// URL is the app's public base URL, where sign-in returns to. Set by
	// [Front.Listen] and [Front.SetURL].
	URL string
	// CanUse names the principals that may use the app: user names, client ids,
	// and the names of other apps, which stand for their service principals.
	// Defaults to everybody.
	CanUse []string
	// Instances that run, as the Apps API tells it. Defaults to 1.
	Instances int
}

var (
	appName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$`)
	// control characters and spaces would break headers, logs and scope lists.
	plainName = regexp.MustCompile(`^[^\x00-\x20\x7f]+$`)
)

func (c Config) withDefaults() Config {
	if c.ID == "" {
		c.ID = "1234567890123456"
	}
	if c.URL == "" {
		c.URL = "http://workspace.sandbox.invalid"
	}
	if c.TokenLifetime == 0 {
		c.TokenLifetime = time.Hour
	}
	if c.ChunkRows == 0 {
		c.ChunkRows = defaultChunkRows
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate reports all faults at once.
func (c Config) validate() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if err := validBaseURL(c.URL); err != nil {
		add("URL: %w", err)
	}
	if c.TokenLifetime < 0 {
		add("TokenLifetime: %v is negative", c.TokenLifetime)
	}
	if c.ChunkRows < 0 {
		add("ChunkRows: %d is negative", c.ChunkRows)
	}
	for _, t := range c.Tables {
		faults = append(faults, t.faults()...)
	}
	seen := map[string]string{}
	unique := func(kind, name string) {
		if !plainName.MatchString(name) {
			add("%s: name %q is empty or has spaces or control characters", kind, name)
		} else if other, dup := seen[name]; dup {
			add("%s: %q is already the name of a %s", kind, name, other)
		}
		seen[name] = kind
	}
	for _, u := range c.Users {
		unique("user", u.UserName)
	}
	for _, sp := range c.ServicePrincipals {
		unique("service principal", sp.ClientID)
	}
	apps := map[string]bool{}
	for _, a := range c.Apps {
		if !appName.MatchString(a.Name) {
			add("app: name %q is not 1 to 30 lower-case letters, digits and hyphens", a.Name)
		} else if apps[a.Name] {
			add("app: %q is listed twice", a.Name)
		}
		apps[a.Name] = true
		if a.ClientID != "" {
			unique("service principal", a.ClientID)
		}
		for _, s := range a.Scopes {
			if !plainName.MatchString(s) {
				add("app %q: scope %q is empty or has spaces", a.Name, s)
			}
		}
		if a.Instances < 0 {
			add("app %q: %d instances", a.Name, a.Instances)
		}
		if a.URL != "" {
			if err := validBaseURL(a.URL); err != nil {
				add("app %q: URL: %w", a.Name, err)
			}
		}
	}
	groups := map[string]bool{}
	for _, g := range c.Groups {
		if g.Name == "" {
			add("group: empty name")
		} else if groups[g.Name] {
			add("group: %q is listed twice", g.Name)
		}
		groups[g.Name] = true
	}
	return errors.Join(faults...)
}

// validBaseURL wants scheme and host only: paths are appended to it, and it is
// compared with redirect addresses.
func validBaseURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return err
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return fmt.Errorf("%q is not an http or https address", s)
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return fmt.Errorf("%q has more than scheme and host", s)
	}
	return nil
}
