package sandbox

import (
	"slices"
	"sync"
	"testing"
)

func TestAppsComeWithAServicePrincipal(t *testing.T) {
	ws, err := New(Config{Apps: []App{
		{Name: "ui"}, {Name: "mw", ClientID: "mw-client", ClientSecret: "mw-secret", Scopes: []string{"sql", ScopeCurrentUserRead}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ui, ok := ws.App("ui")
	if !ok || ui.ClientID != uuidFrom("app ui") || ui.ClientSecret == "" {
		t.Errorf("%+v", ui)
	}
	mw, _ := ws.App("mw")
	if !slices.Equal(mw.Scopes, []string{ScopeCurrentUserRead, ScopeAccessControlRead, "sql"}) {
		t.Errorf("scopes %v", mw.Scopes)
	}
	p, ok := ws.directory.lookup("mw-client")
	if !ok || !p.servicePrincipal || p.secret != "mw-secret" {
		t.Errorf("%+v", p)
	}
	if _, ok := ws.App("none"); ok {
		t.Error("found an app that is not there")
	}
}

func TestEnv(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	if err := ws.SetURL("http://127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	app, _ := ws.App("ui")
	env, err := ws.Env("ui")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"DATABRICKS_APP_NAME=ui", "DATABRICKS_HOST=http://127.0.0.1:1", "DATABRICKS_WORKSPACE_ID=" + ws.ID(),
		"DATABRICKS_CLIENT_ID=" + app.ClientID, "DATABRICKS_CLIENT_SECRET=" + app.ClientSecret,
	}
	if !slices.Equal(env, want) {
		t.Errorf("got %v, want %v", env, want)
	}
	if _, err := ws.Env("none"); err == nil {
		t.Error("an environment for no app")
	}
}

func TestSetURLRefusesWhatIsNoBaseURL(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	before := ws.URL()
	if ws.SetURL("http://h/path") == nil || ws.setAppURL("ui", "x") == nil || ws.URL() != before {
		t.Error("accepted")
	}
}

// The race detector is the judge here.
func TestEverythingAtOnce(t *testing.T) {
	ws, _ := newTestWorkspace(t)
	token := mustToken(t, ws, "alice@example.com", TokenOptions{})
	var wg sync.WaitGroup
	for range 4 {
		for _, f := range []func(){
			func() { call(ws, "GET", mePath, token) },
			func() { _ = ws.SetGroups("alice@example.com", "a", "b") },
			func() { ws.SetMemberOf("a", "c") },
			func() { _ = ws.SetActive("alice@example.com", true) },
			func() { _ = ws.SetURL("http://127.0.0.1:2"); _ = ws.URL() },
			func() { _ = ws.setAppURL("ui", "http://127.0.0.1:3"); _ = ws.listApps() },
			func() { ws.Faults.Add(Fault{Path: "/none"})(); ws.Faults.Clear() },
			func() { _ = ws.Calls().Count(); ws.ResetCalls() },
			func() { token, _ := ws.Token("bob@example.com", TokenOptions{}); _ = ws.Revoke(token) },
		} {
			wg.Go(f)
		}
	}
	wg.Wait()
}
