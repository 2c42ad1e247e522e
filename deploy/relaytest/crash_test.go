package relaytest_test

import (
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

// crashes are ways in which a process that has requests in hand ends.
var crashes = map[string]func(){
	"nil pointer": func() {
		var p *int
		*p = 1
	},
	"map": func() {
		m := map[int]int{}
		for {
			go func() {
				for i := range 1 << 30 {
					m[i] = i
				}
			}()
		}
	},
	"stack": func() {
		debug.SetMaxStack(1 << 20)
		depth = overflow(depth)
	},
}

// depth keeps compiler and linter from seeing that overflow has no end.
var depth = 1

func overflow(n int) int {
	if n < depth {
		return n
	}
	return overflow(n+1) + n
}

// TestCrashed is the process that crashes, in TestCrashTracesHoldNoToken: with a request in its handler's hands, which has
// read the token, and other requests on the way.
func TestCrashed(t *testing.T) {
	crash := crashes[os.Getenv("OBO_CRASH")]
	if crash == nil {
		return // this is not that process
	}
	n := relaytest.New(t, os.Stderr)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("X-Forwarded-Access-Token")
		body, err := io.ReadAll(r.Body)
		if err == nil && hold(token, string(body), r) {
			go crash() // in the handler's own goroutine the worker would catch what can be caught
		}
		<-r.Context().Done()
	}), nil)
	client := n.Publisher(nil)
	each(4, func(int) {
		do(client, newRequest(t, "POST", "/", strings.NewReader("CANARY-body")))
	})
	relaytest.Recv(t, make(chan int), "the crash")
}

// hold keeps its arguments on the stack, where a trace shows them.
//
//go:noinline
func hold(token, body string, r *http.Request) bool {
	return strings.Count(token, ".") == 2 && body != "" && r != nil
}

// A process that crashes prints where it was, and nothing of the requests that it had in hand, whatever GOTRACEBACK says.
func TestCrashTracesHoldNoToken(t *testing.T) {
	t.Parallel()
	places := map[string][]byte{}
	for kind := range crashes {
		for _, level := range []string{"single", "all", "system", "crash"} {
			if kind != "nil pointer" && level != "system" {
				continue
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestCrashed$")
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(), "OBO_CRASH="+kind, "GOTRACEBACK="+level)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("%s, %s: it did not crash: %v", kind, level, err)
			}
			if !strings.Contains(string(out), "goroutine ") || level != "single" && kind != "stack" && !strings.Contains(string(out), "relay/worker.(*exchangeRun).dispatch") {
				t.Errorf("%s, %s: the trace shows too little to judge:\n%s", kind, level, out)
			}
			places[kind+", GOTRACEBACK="+level] = out
		}
	}
	canaries := map[string]string{"token": alice(), "body": "CANARY-body", "name": "CANARY-alice"}
	for place, text := range places {
		for name, canary := range canaries {
			for _, form := range []string{canary, hex.EncodeToString([]byte(canary)), canary[:10]} {
				if strings.Contains(string(text), form) {
					t.Errorf("%s: the %s is in the trace", place, name)
				}
			}
			if parts := strings.Split(canary, "."); len(parts) == 3 && strings.Contains(string(text), parts[1][:40]) {
				t.Errorf("%s: the token's claims are in the trace", place)
			}
		}
	}
}
