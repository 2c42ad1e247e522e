package sandbox_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/obo-relay/obo-relay/deploy/sandbox"
)

// Alice and Bob, and the middleware app behind the platform's proxy. Called
// with Alice's own token it still sees none: this is the problem the relay
// solves.
func Example() {
	ws, err := sandbox.New(sandbox.Config{
		Users: []sandbox.User{
			{UserName: "alice@example.com", DisplayName: "Alice", Groups: []string{"data-admins", "analysts"}},
			{UserName: "bob@example.com", DisplayName: "Bob", Groups: []string{"analysts"}},
		},
		Apps: []sandbox.App{{Name: "ui", UserAuthorization: true}, {Name: "middleware", UserAuthorization: true}},
	})
	if err != nil {
		panic(err)
	}
	workspace, err := ws.Listen("127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer workspace.Close()

	app := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "email %q, Authorization %q, access token %q", r.Header.Get("X-Forwarded-Email"),
			r.Header.Get("Authorization"), r.Header.Get("X-Forwarded-Access-Token"))
	}))
	defer app.Close()
	front, err := sandbox.NewFront(sandbox.FrontConfig{Workspace: ws, App: "middleware", Upstream: app.URL})
	if err != nil {
		panic(err)
	}
	door, err := front.Listen("127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer door.Close()

	token, err := ws.Token("alice@example.com", sandbox.TokenOptions{App: "ui"})
	if err != nil {
		panic(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	fetch := func(address string) *http.Response {
		r, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			panic(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(r)
		if err != nil {
			panic(err)
		}
		return resp
	}

	resp := fetch(door.URL() + "/api/groups")
	var body [200]byte
	n, _ := resp.Body.Read(body[:])
	resp.Body.Close()
	fmt.Printf("%s\n", body[:n])

	resp = fetch(workspace.URL() + "/api/2.0/preview/scim/v2/Me?attributes=groups")
	var me struct {
		Groups []struct{ Display, Type string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&me); err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(me.Groups)
	fmt.Println("calls by service principals:", ws.Calls().ByServicePrincipals().Count())
	// Output:
	// email "alice@example.com", Authorization "", access token ""
	// [{data-admins direct} {analysts direct}]
	// calls by service principals: 0
}
