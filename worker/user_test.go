package worker

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"github.com/databricks/databricks-sdk-go/service/iam"

	"github.com/obo-relay/obo-relay/relay"
)

func TestUserFrom(t *testing.T) {
	if u, ok := UserFrom(context.Background()); ok || u != nil {
		t.Errorf("a plain context has user %v", u)
	}
	if u, ok := UserFrom(withUser(context.Background(), nil)); ok || u != nil {
		t.Errorf("no user counts as user %v", u)
	}
	alice := &User{ID: "1"}
	if u, ok := UserFrom(withUser(context.Background(), alice)); !ok || u != alice {
		t.Errorf("got %v, %v", u, ok)
	}
}

func TestUserJSON(t *testing.T) {
	b, err := json.Marshal(User{ID: "1", UserName: "a@x", DisplayName: "A", Emails: []string{}, Groups: []string{"g"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(b), `{"id":"1","user_name":"a@x","display_name":"A","emails":[],"groups":["g"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNewUser(t *testing.T) {
	tests := map[string]struct {
		answer string
		want   *User
		code   relay.Code
	}{
		"all": {
			answer: `{"id":"7","userName":"a@x.org","displayName":"Ä","active":true,
				"emails":[{"value":"old@x.org"},{"value":"a@x.org","primary":true},{"value":"old@x.org"},{"value":""}],
				"groups":[{"display":"users","value":"2"},{"display":"admins","type":"indirect"},{"display":"users"},{"value":"9"}]}`,
			want: &User{ID: "7", UserName: "a@x.org", DisplayName: "Ä", Emails: []string{"a@x.org", "old@x.org"}, Groups: []string{"admins", "users"}},
		},
		"least":        {answer: `{"id":"7","userName":"a"}`, want: &User{ID: "7", UserName: "a", Emails: []string{}, Groups: []string{}}},
		"nothing":      {answer: `{}`, code: relay.CodeWorkspaceDown},
		"no id":        {answer: `{"userName":"a"}`, code: relay.CodeWorkspaceDown},
		"no user name": {answer: `{"id":"7"}`, code: relay.CodeWorkspaceDown},
		"inactive":     {answer: `{"id":"7","userName":"a","active":false}`, code: relay.CodeForbidden},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var me iam.User
			if err := json.Unmarshal([]byte(test.answer), &me); err != nil {
				t.Fatal(err)
			}
			got, err := newUser(&me)
			if test.code != "" {
				if !errors.Is(err, test.code) {
					t.Errorf("got %v, %v, want %s", got, err, test.code)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}
