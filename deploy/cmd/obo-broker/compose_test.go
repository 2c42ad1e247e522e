package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/setup"
)

// buildSides builds the two sides' commands into a directory for PATH.
func buildSides(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir, "./publisher/cmd/obo-publisher", "./worker/cmd/obo-worker")
	cmd.Dir = filepath.Join("..", "..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestCompose(t *testing.T) {
	t.Parallel()
	commands := buildSides(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/compose",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", commands+string(os.PathListSeparator)+env.Getenv("PATH"))
			return writeRelay(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"signal": sendSignal, "logged": relaytest.Logged},
	})
}

// writeRelay makes the files of a relay on a free port.
func writeRelay(env *testscript.Env) error {
	natsPort, err := freePort()
	if err != nil {
		return err
	}
	appPort, err := freePort()
	if err != nil {
		return err
	}
	env.Setenv("APP", fmt.Sprintf("127.0.0.1:%d", appPort))
	for _, name := range []string{"NODE1", "NODE2", "NODE3", "ROUTE1", "ROUTE2", "ROUTE3"} {
		port, err := freePort()
		if err != nil {
			return err
		}
		env.Setenv(name, fmt.Sprint(port))
	}
	env.Setenv("TOKEN", relaytest.Token("alice", time.Now().Add(time.Hour)))
	made, err := setup.Init(setup.Config{
		Dir: filepath.Join(env.WorkDir, "relay"), NATSURL: fmt.Sprintf("nats://127.0.0.1:%d", natsPort),
		Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"},
	})
	if err != nil {
		return err
	}
	for _, side := range made.Sides {
		kit, err := os.ReadFile(side.KitFile)
		if err != nil {
			return err
		}
		env.Setenv(strings.ToUpper(string(side.Role))+"_KIT", string(kit))
	}
	return nil
}

// middleware is an app: middleware ADDRESS.
func middleware() {
	printSettings()
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		panic(err)
	}
	panic(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "served", r.URL.Path, "with the person's token:", r.Header.Get("X-Forwarded-Access-Token") == os.Getenv("TOKEN"))
	})))
}

// ui is an app that calls the middleware once.
func ui() {
	printSettings()
	request, err := http.NewRequest(http.MethodGet, os.Getenv("OBO_URL_MIDDLEWARE")+"/groups", nil)
	if err != nil {
		panic(err)
	}
	request.Header.Set("X-Forwarded-Access-Token", os.Getenv("TOKEN"))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	fmt.Println(response.Status, string(body), err)
}

// printSettings tells which variables of the relay's an app was given.
func printSettings() {
	env := os.Environ()
	slices.Sort(env)
	for _, v := range env {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OBO_") {
			fmt.Println("env", name)
		}
	}
}
