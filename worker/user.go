package worker

import (
	"context"
	"slices"

	"github.com/databricks/databricks-sdk-go/service/iam"

	"github.com/obo-relay/obo-relay/relay"
)

// User is a person as the workspace reports them for their own token. Values are shared through a cache: treat them, and
// the slices in them, as read only.
type User struct {
	ID          string   `json:"id"`           // the workspace's user id
	UserName    string   `json:"user_name"`    // most often an e-mail address
	DisplayName string   `json:"display_name"` // may be empty; chosen by people, so not an identity
	Emails      []string `json:"emails"`       // the primary one first
	Groups      []string `json:"groups"`       // display names, sorted, of direct and indirect groups
}

type userKey struct{}

func withUser(ctx context.Context, u *User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// UserFrom returns the person that a request is made for. It reports false when the worker looks nobody up.
func UserFrom(ctx context.Context) (*User, bool) {
	u, _ := ctx.Value(userKey{}).(*User)
	return u, u != nil
}

// newUser reads the answer of SCIM Me. An answer that names nobody is a failure, not an anonymous person.
func newUser(me *iam.User) (*User, error) {
	if me.Id == "" || me.UserName == "" {
		return nil, relay.NewError(relay.CodeWorkspaceDown, "the workspace's answer names no user")
	}
	// The SDK lists a false that was really sent, as opposed to left out, in ForceSendFields.
	if !me.Active && slices.Contains(me.ForceSendFields, "Active") {
		return nil, relay.NewError(relay.CodeForbidden, "the workspace reports this user as inactive")
	}
	u := &User{ID: me.Id, UserName: me.UserName, DisplayName: me.DisplayName, Emails: []string{}, Groups: []string{}}
	for _, primary := range []bool{true, false} {
		for _, e := range me.Emails {
			if e.Primary == primary && e.Value != "" && !slices.Contains(u.Emails, e.Value) {
				u.Emails = append(u.Emails, e.Value)
			}
		}
	}
	for _, g := range me.Groups {
		if g.Display != "" {
			u.Groups = append(u.Groups, g.Display)
		}
	}
	slices.Sort(u.Groups)
	u.Groups = slices.Compact(u.Groups)
	return u, nil
}
