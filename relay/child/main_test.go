//go:build unix

package child

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

func TestMain(m *testing.M) {
	programs := map[string]func(){"server": server, "client": client, "obo-broker": client, "obo-worker": server, "app": app, "ordinary": ordinary, "spy": spy}
	testscript.Main(leakChecked{m}, programs)
}

// leakChecked is goleak.VerifyTestMain for testscript.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func runScripts(t *testing.T, dir string) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"ADDR", "FREE"} {
				addr, err := freeAddress()
				if err != nil {
					return err
				}
				env.Setenv(name, addr)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"signal": sendSignal, "logged": relaytest.Logged, "answers": answers, "ended": ended},
	})
}

func TestScripts(t *testing.T) { runScripts(t, "testdata/script") }

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

const patience = 20 * time.Second

// eventually polls until ok is true.
func eventually(ts *testscript.TestScript, what string, ok func() bool) {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			ts.Fatalf("never: %s", what)
		}
	}
}

func pidIn(ts *testscript.TestScript, file string) int {
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(file)))
	ts.Check(err)
	return pid
}

// sendSignal is "signal NAME FILE": to the process whose id FILE holds.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	if neg || len(args) != 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal TERM|INT|HUP|KILL pidfile")
	}
	ts.Check(syscall.Kill(pidIn(ts, args[1]), signals[args[0]]))
}

// answers ADDRESS waits until an app listens there; "! answers" until none does.
func answers(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] answers address")
	}
	eventually(ts, fmt.Sprint("answers ", args, " ", !neg), func() bool {
		resp, err := http.Get("http://" + args[0])
		if err != nil {
			return neg
		}
		return resp.Body.Close() == nil && !neg
	})
	http.DefaultClient.CloseIdleConnections()
}

// ended FILE waits until no process has the id that FILE holds, not even a zombie.
func ended(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ended pidfile")
	}
	pid := pidIn(ts, args[0])
	eventually(ts, fmt.Sprint("ended ", args), func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
}
