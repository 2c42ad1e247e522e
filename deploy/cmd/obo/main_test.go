package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

func TestMain(m *testing.M) {
	if signal.Ignored(syscall.SIGHUP) { // by nohup, say: what the scripts start would ignore it too, and some wait for it to end
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
	}
	testscript.Main(m, map[string]func(){command: main, "uiapp": uiApp, "databricks": fakeDatabricks, "obo-app": app, "ends": ends})
}

// certificates are an authority's, of a server at 127.0.0.1 and of a client.
func certificates(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	authority := relaytest.NewAuthority(t, dir, "ca")
	until := time.Now().Add(time.Hour)
	authority.Issue("server", "127.0.0.1", until)
	authority.Issue("client", "", until)
	return dir
}

func TestScripts(t *testing.T) {
	t.Parallel()
	bin, certs := relaytest.Build(t, t.TempDir()), certificates(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			upstream := httptest.NewServer(http.HandlerFunc(echo))
			env.Defer(upstream.Close)
			env.Setenv("UPSTREAM", upstream.URL)
			if err := collecting(t, env); err != nil {
				return err
			}
			env.Setenv("CERTS", certs)
			for _, name := range []string{"NATS_PORT", "ROUTE_PORT", "SANDBOX_PORT", "FREE_PORT"} {
				port, err := freePort()
				if err != nil {
					return err
				}
				env.Setenv(name, port)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"logged": relaytest.Logged, "fetch": fetch, "setenv": setenv, "big": big, "ended": ended, "lines": lines, "traced": traced, "collected": collected},
	})
}

// echo is the middleware app: it tells what it received.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	h.Set("X-Answer", "42")
	h.Set("Content-Type", "text/plain")
	if r.URL.Path == "/missing" {
		w.WriteHeader(http.StatusNotFound)
	}
	fmt.Fprintf(w, "method %s\nuri %s\nemail %s\nuser-header %q\ntoken %d parts\nbody %d %.20q\n",
		r.Method, r.URL.RequestURI(), r.Header.Get("X-Forwarded-Email"), r.Header["X-Demo"],
		len(strings.Split(r.Header.Get("X-Forwarded-Access-Token"), ".")), len(body), body)
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// setenv NAME FILE puts a file's text into a variable.
func setenv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: setenv name file")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// big FILE BYTES makes a file.
func big(ts *testscript.TestScript, neg bool, args []string) {
	var n int
	if _, err := fmt.Sscan(args[1], &n); err != nil || neg {
		ts.Fatalf("usage: big file bytes")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Repeat("x", n)), 0o600))
}

// fetch METHOD URL BODY [NAME=VALUE ...] prints status, headers and body, as curl -i does. The variable TOKEN is sent
// as the platform does.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: fetch method url body [name=value ...]")
	}
	request, err := http.NewRequest(args[0], args[1], strings.NewReader(args[2]))
	ts.Check(err)
	request.Header.Set("X-Forwarded-Access-Token", ts.Getenv("TOKEN"))
	for _, pair := range args[3:] {
		name, value, _ := strings.Cut(pair, "=")
		request.Header.Add(name, value)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	ts.Check(err)
	defer response.Body.Close()
	ts.Check(response.Write(ts.Stdout()))
}
