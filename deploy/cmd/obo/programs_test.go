package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// uiApp is a UI app: it listens where the platform's variables say, and calls the middleware app with the token that each
// request brought. uiapp WORD PORT prints both. It leaves a process behind.
func uiApp() {
	fmt.Printf("ui app: %s, port %s, streamlit %s, host %s\n", os.Args[1], os.Args[2], os.Getenv("STREAMLIT_SERVER_PORT"), os.Getenv("DATABRICKS_HOST"))
	rest := exec.Command("sleep", "1000")
	if err := rest.Start(); err != nil {
		panic(err)
	}
	if err := os.WriteFile("ui.rest", []byte(strconv.Itoa(rest.Process.Pid)), 0o600); err != nil {
		panic(err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	http.HandleFunc("/page", func(w http.ResponseWriter, r *http.Request) {
		call, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, os.Getenv("OBO_URL_MIDDLEWARE")+"/from-ui", nil)
		call.Header.Set("X-Forwarded-Access-Token", r.Header.Get("X-Forwarded-Access-Token"))
		resp, err := http.DefaultClient.Do(call)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		fmt.Fprintf(w, "ui email %s user %s\n", r.Header.Get("X-Forwarded-Email"), r.Header.Get("X-Forwarded-User"))
		_, _ = io.Copy(w, resp.Body)
	})
	go func() { panic(http.ListenAndServe("127.0.0.1:"+os.Getenv("DATABRICKS_APP_PORT"), nil)) }()
	fmt.Println("ui app:", <-signals)
	os.Exit(0)
}

// ends is a command that takes until there is a file "go" to end, once it is told to.
func ends() {
	ctx := untilStopped()
	fmt.Println("up")
	<-ctx.Done()
	fmt.Println("ending")
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for range poll.C {
		if _, err := os.Stat("go"); err == nil {
			break
		}
	}
	fmt.Println("ended")
}

// databricksToken answers databricks auth token as the Databricks CLI does, with the token in the file "token".
func databricksToken() {
	log, err := os.OpenFile("cli.log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(log, strings.Join(os.Args[1:], " "))
	token, err := os.ReadFile("token")
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error: no token is cached")
		os.Exit(1)
	}
	fmt.Printf("{\n  \"access_token\": %q,\n  \"token_type\": \"Bearer\",\n  \"expiry\": %q\n}\n", strings.TrimSpace(string(token)), time.Now().Add(time.Hour).Format(time.RFC3339))
	os.Exit(0)
}

// ended FILE waits until the process whose number is in the file is gone.
func ended(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ended pidfile")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	process, err := os.FindProcess(pid)
	if err != nil {
		return // Windows has none of that number
	}
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-poll.C {
		state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // Linux alone has that
		if errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone) || strings.Contains(string(state), ") Z ") {
			return // gone, or dead and not yet buried by the system
		}
		if time.Now().After(deadline) {
			ts.Fatalf("process %d still runs", pid)
		}
	}
}
