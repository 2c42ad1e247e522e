package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"obo-broker": main, "middleware": middleware, "ui": ui})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"PORT", "WS_PORT", "MONITOR_PORT"} {
				port, err := freePort()
				if err != nil {
					return err
				}
				env.Setenv(name, fmt.Sprint(port))
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"serves": serves, "signal": sendSignal, "logged": relaytest.Logged},
	})
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

const patience = 10 * time.Second

// serves URL [USER] waits until a client gets through; "! serves" waits until the server refuses it.
func serves(ts *testscript.TestScript, neg bool, args []string) {
	opts := []nats.Option{nats.NoReconnect()}
	if len(args) == 2 {
		opts = append(opts, nats.UserInfo(args[1], args[1]))
	}
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(patience); ; <-poll.C {
		nc, err := nats.Connect(args[0], opts...)
		switch {
		case err == nil:
			nc.Close()
			if !neg {
				return
			}
		case errors.Is(err, nats.ErrAuthorization) && neg:
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("serves %v: %v", args, err)
		}
	}
}

// sendSignal is "signal NAME FILE": it sends a signal to the process whose id FILE holds; testscript's own kill knows INT and KILL only.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP}
	if neg || len(args) != 2 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal TERM|INT|HUP pidfile")
	}
	pid, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	process, err := os.FindProcess(pid)
	ts.Check(err)
	ts.Check(process.Signal(signals[args[0]]))
}
