//go:build unix

package child

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// parentFlags are those of the test programs server and client, which stand for the relay's commands.
type parentFlags struct {
	addr, add, drain, pid string
	ready                 Readiness
	stopTime              time.Duration
	hide, subreaper, fail bool
	keepHangup            bool
	words                 []string
}

func parseParent() parentFlags {
	var f parentFlags
	flag.StringVar(&f.addr, "addr", "127.0.0.1:1", "of the app")
	flag.StringVar(&f.ready.Path, "ready-path", "", "")
	flag.DurationVar(&f.ready.Timeout, "ready-timeout", 0, "")
	flag.DurationVar(&f.stopTime, "stop-time", 0, "")
	flag.StringVar(&f.add, "add", "", "variables for the app, with commas between")
	flag.StringVar(&f.drain, "drain", "", "drain until this file exists")
	flag.StringVar(&f.pid, "pid", "", "write the process id there")
	flag.BoolVar(&f.hide, "hide", false, "call Hide")
	flag.BoolVar(&f.subreaper, "subreaper", false, "take orphans, as process 1 does")
	flag.BoolVar(&f.fail, "fail", false, "fail instead of serving")
	flag.BoolVar(&f.keepHangup, "keep-hangup", false, "")
	flag.Parse()
	f.ready.URL = &url.URL{Scheme: "http", Host: f.addr}
	f.words = flag.Args()
	return f
}

func (f parentFlags) config() Config {
	if f.pid != "" {
		must(os.WriteFile(f.pid, fmt.Append(nil, os.Getpid()), 0o600))
	}
	if f.hide {
		must(Hide())
	}
	if f.subreaper {
		must(becomeSubreaper())
	}
	var add []string
	if f.add != "" {
		add = strings.Split(f.add, ",")
	}
	return Config{
		Words: f.words, Env: Environ(os.Environ(), f.words, add), StopTime: f.stopTime, KeepHangup: f.keepHangup,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
}

// server is a parent that calls its child.
func server() {
	f := parseParent()
	exit(RunServer(context.Background(), f.config(), f.ready, f.serve))
}

// client is a parent whose child calls it.
func client() {
	f := parseParent()
	up := make(chan struct{})
	exit(RunClient(context.Background(), f.config(), up, func(ctx context.Context) error {
		if !f.fail {
			close(up)
		}
		return f.serve(ctx)
	}))
}

func (f parentFlags) serve(ctx context.Context) error {
	if f.fail {
		return errors.New("cannot serve")
	}
	fmt.Fprintln(os.Stderr, "serving")
	<-ctx.Done()
	if resp, err := http.Get("http://" + f.addr); err == nil {
		fmt.Fprintln(os.Stderr, "draining, the app answers", resp.StatusCode)
		_ = resp.Body.Close()
	} else {
		fmt.Fprintln(os.Stderr, "draining, the app does not answer")
	}
	awaitFile(f.drain)
	fmt.Fprintln(os.Stderr, "drained")
	return nil
}

func exit(status int, err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "ERROR:", err)
	}
	os.Exit(status)
}

// app is a child. It tells on standard output what it hears.
func app() {
	listen := flag.String("listen", "", "serve HTTP there")
	after := flag.String("after", "", "listen when this file exists")
	healthy := flag.String("healthy", "", "/health is answered 503 until this file exists")
	status := flag.Int("exit", -1, "end at once with this status")
	end := flag.Bool("end", false, "end instead of listening")
	later := flag.Int("status", 0, "end with this status when asked to stop")
	stubborn := flag.Bool("stubborn", false, "do not stop when asked to")
	plain := flag.Bool("plain", false, "do not handle signals")
	orphan := flag.String("orphan", "", "start a grandchild whose parent ends, which ends when this file exists and writes its id into FILE.pid")
	pid := flag.String("pid", "", "write the process id there")
	flag.Parse()
	writePID(*pid)
	signals := make(chan os.Signal, 8)
	if !*plain {
		signal.Notify(signals, syscall.SIGTERM, os.Interrupt, syscall.SIGHUP)
	}
	env := os.Environ()
	slices.Sort(env)
	for _, v := range env {
		if strings.HasPrefix(v, "OBO_") || strings.HasPrefix(v, "APP_") {
			fmt.Println("env", v)
		}
	}
	if *status >= 0 {
		os.Exit(*status)
	}
	if *orphan != "" {
		startOrphan(*orphan)
	}
	awaitFile(*after)
	if *end {
		os.Exit(0)
	}
	serveHTTP(*listen, *healthy)
	fmt.Println("app runs", flag.Args())
	for sig := range signals {
		fmt.Println("app got", sig)
		if sig != syscall.SIGHUP && !*stubborn {
			os.Exit(*later)
		}
	}
}

func serveHTTP(addr, healthy string) {
	if addr == "" {
		return
	}
	l, err := net.Listen("tcp", addr)
	must(err)
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat(healthy); healthy != "" && err != nil {
			fmt.Println("app is not healthy")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	go func() { must(http.Serve(l, nil)) }()
}

// startOrphan starts a program whose parent ends at once.
func startOrphan(file string) {
	self, err := exec.LookPath(os.Args[0])
	must(err)
	must(exec.Command("sh", "-c", `"$0" -pid "$1.pid" -after "$1" -end </dev/null >/dev/null 2>&1 &`, self, file).Run())
}

func writePID(file string) {
	if file != "" {
		must(os.WriteFile(file, fmt.Append(nil, os.Getpid()), 0o600))
	}
}

// awaitFile returns when the file exists, at once without a name.
func awaitFile(name string) {
	if name == "" {
		return
	}
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for range poll.C {
		if _, err := os.Stat(name); err == nil {
			return
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
