package sandbox

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"testing"

	"github.com/databricks/databricks-sdk-go/apierr"
	"github.com/databricks/databricks-sdk-go/client"
	"github.com/databricks/databricks-sdk-go/config"
	"github.com/databricks/databricks-sdk-go/service/iam"
)

func TestMe(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	got := decode(t, call(ws, "GET", mePath, mustToken(t, ws, "alice@example.com", TokenOptions{})).Body)
	admins, staff := numericID("group data-admins"), numericID("group staff")
	want := map[string]any{
		"schemas": []any{"urn:ietf:params:scim:schemas:core:2.0:User"},
		"id":      "1001", "userName": "alice@example.com", "displayName": "Alice Doe", "active": true,
		"name": map[string]any{"givenName": "Alice", "familyName": "Doe"},
		"emails": []any{
			map[string]any{"value": "alice@example.com", "type": "work", "primary": true},
			map[string]any{"value": "a.doe@example.com", "type": "work"},
		},
		"groups": []any{
			map[string]any{"display": "data-admins", "value": admins, "type": "direct", "$ref": "Groups/" + admins},
			map[string]any{"display": "analysts", "value": "77", "type": "direct", "$ref": "Groups/77"},
			map[string]any{"display": "staff", "value": staff, "type": "indirect", "$ref": "Groups/" + staff},
		},
		"entitlements": []any{map[string]any{"value": "workspace-access"}, map[string]any{"value": "databricks-sql-access"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestMeSelectsAttributes(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	token := mustToken(t, ws, "alice@example.com", TokenOptions{})
	for query, want := range map[string][]string{
		"attributes=userName":                       {"id", "schemas", "userName"},
		"attributes=USERNAME,%20groups.display":     {"groups", "id", "schemas", "userName"},
		"excludedAttributes=entitlements,name,id":   {"active", "displayName", "emails", "groups", "id", "schemas", "userName"},
		"attributes=groups&excludedAttributes=nope": {"groups", "id", "schemas"},
	} {
		got := decode(t, call(ws, "GET", mePath+"?"+query, token).Body)
		if names := slices.Sorted(maps.Keys(got)); !reflect.DeepEqual(names, want) {
			t.Errorf("%s: %v", query, names)
		}
	}
}

func TestMeOfAServicePrincipal(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	got := decode(t, call(ws, "GET", mePath, mustToken(t, ws, "robot", TokenOptions{})).Body)
	if got["userName"] != "robot" || got["emails"] != nil || len(got["groups"].([]any)) != 1 {
		t.Errorf("%v", got)
	}
}

func TestGroupsChangeAtRunTime(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	token := mustToken(t, ws, "bob@example.com", TokenOptions{})
	groups := func() (names []string) {
		for _, g := range decode(t, call(ws, "GET", mePath, token).Body)["groups"].([]any) {
			names = append(names, g.(map[string]any)["display"].(string))
		}
		return names
	}
	if got := groups(); !reflect.DeepEqual(got, []string{"analysts", "staff"}) {
		t.Errorf("before: %v", got)
	}
	if err := ws.SetGroups("bob@example.com", "data-admins"); err != nil {
		t.Fatal(err)
	}
	ws.SetMemberOf("data-admins", "root")
	if got := groups(); !reflect.DeepEqual(got, []string{"data-admins", "root"}) {
		t.Errorf("after: %v", got)
	}
	if err := ws.SetGroups("bob@example.com"); err != nil {
		t.Fatal(err)
	}
	if got := groups(); got != nil {
		t.Errorf("at last: %v", got)
	}
	if err := ws.SetGroups("nobody", "x"); err == nil {
		t.Error("groups for nobody")
	}
}

// sdkMe asks with the real SDK, isolated from the environment.
func sdkMe(ctx context.Context, t *testing.T, host, token string) (*iam.User, error) {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(&config.Config{
		Host: host, Token: token, Credentials: config.PatCredentials{}, RetryTimeoutSeconds: 5,
		Loaders: []config.Loader{noLoader{}}, HTTPTransport: transport,
		HostMetadataResolver: func(context.Context, string) (*config.HostMetadata, error) { return nil, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return iam.NewCurrentUser(c).Me(ctx, iam.MeRequest{ExcludedAttributes: "entitlements"})
}

type noLoader struct{}

func (noLoader) Name() string                   { return "none" }
func (noLoader) Configure(*config.Config) error { return nil }

func TestTheSDKUnderstandsTheWorkspace(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	host := serve(t, ws.Listen).URL()
	me, err := sdkMe(t.Context(), t, host, mustToken(t, ws, "alice@example.com", TokenOptions{}))
	if err != nil {
		t.Fatal(err)
	}
	if me.UserName != "alice@example.com" || me.Id != "1001" || len(me.Groups) != 3 || me.Groups[2].Type != "indirect" ||
		!me.Active || !me.Emails[0].Primary || me.Entitlements != nil {
		t.Errorf("%+v", me)
	}
	_, err = sdkMe(t.Context(), t, host, mustToken(t, ws, "alice@example.com", TokenOptions{Lifetime: -1}))
	if !errors.Is(err, apierr.ErrUnauthenticated) {
		t.Errorf("expired: %v", err)
	}
	_, err = sdkMe(t.Context(), t, host, mustToken(t, ws, "alice@example.com", TokenOptions{Scopes: []string{"sql"}}))
	if !errors.Is(err, apierr.ErrPermissionDenied) {
		t.Errorf("missing scope: %v", err)
	}
}
