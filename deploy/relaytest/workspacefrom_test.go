package relaytest_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/databricks/databricks-sdk-go/service/iam"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/worker"
)

// A Go handler acts as the person with a client that it need not build.
func TestWorkspaceFrom(t *testing.T) {
	ws, err := sandbox.New(sandbox.Config{
		Users: []sandbox.User{{UserName: "alice@example.com", Groups: []string{"analysts"}}},
		Apps:  []sandbox.App{{Name: "ui", UserAuthorization: true}},
	})
	relaytest.Must(t, err)
	api, err := ws.Listen("127.0.0.1:0")
	relaytest.Must(t, err)
	t.Cleanup(func() { _ = api.Close() })
	workspace, err := worker.NewWorkspace(worker.WorkspaceConfig{Host: ws.URL()})
	relaytest.Must(t, err)
	t.Cleanup(workspace.Close)

	n, _ := start(t)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, err := worker.WorkspaceFrom(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		me, err := iam.NewCurrentUser(client).Me(r.Context(), iam.MeRequest{})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte(me.UserName))
	})
	n.Worker(handler, func(c *worker.Config) { c.Workspace = workspace })
	token, err := ws.Token("alice@example.com", sandbox.TokenOptions{App: "ui", Lifetime: time.Hour})
	relaytest.Must(t, err)
	r := newRequest(t, "GET", "/", nil)
	r.Header.Set("X-Forwarded-Access-Token", token)
	do(n.Publisher(nil), r).want(t, 200, "alice@example.com")
	if calls := ws.Calls().ByServicePrincipals().Count(); calls != 0 {
		t.Errorf("%d calls as a service principal", calls)
	}
	if _, err := worker.WorkspaceFrom(context.Background()); err == nil {
		t.Error("outside of a request there is no person")
	}
}
