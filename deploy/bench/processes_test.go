package bench

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/sandbox"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
)

// parts are what else this binary is, in processes of their own: the two ends and what the relay stands beside. Each takes
// addresses, and returns only if it fails.
var parts = map[string]func(args []string) error{
	"backend":             func(args []string) error { return http.ListenAndServe(args[0], backend()) },
	"hop":                 func(args []string) error { return http.ListenAndServe(args[0], hop(args[1])) },
	"people":              func(args []string) error { return http.ListenAndServe(args[0], people(args[1])) },
	"gateway's HTTP half": httpHalf(gatewayFront),
	"gateway's NATS half": natsHalf(gatewayBack),
	"sealed HTTP half":    httpHalf(sealedFront),
	"sealed NATS half":    natsHalf(sealedBack),
}

// httpHalf is a gateway's half beside the client: it listens at the first address.
func httpHalf(front func(*nats.Conn) http.Handler) func(args []string) error {
	return func(args []string) error {
		nc, err := connect(args[1], args[2])
		if err != nil {
			return err
		}
		return http.ListenAndServe(args[0], front(nc))
	}
}

// natsHalf is a gateway's half beside the backend, which is the first address.
func natsHalf(back func(nc *nats.Conn, target string) error) func(args []string) error {
	return func(args []string) error {
		nc, err := connect(args[1], args[2])
		if err != nil {
			return err
		}
		if err := back(nc, args[0]); err != nil {
			return err
		}
		select {}
	}
}

const partVariable = "OBO_BENCH_PART"

// built is where the commands are built, once for all benchmarks, unless OBO_BIN says where they are.
var built string

func TestMain(m *testing.M) {
	if name := os.Getenv(partVariable); name != "" {
		fmt.Fprintln(os.Stderr, name, parts[name](os.Args[1:]))
		os.Exit(1)
	}
	var err error
	if built, err = os.MkdirTemp("", "obo-bench-"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(built)
	os.Exit(code)
}

// connect connects to a broker that may start later.
func connect(url, seed string) (*nats.Conn, error) {
	nkey, err := nats.NkeyOptionFromSeed(seed)
	if err != nil {
		return nil, err
	}
	return nats.Connect(url, nkey, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
}

// processes is the relay as its users run it, with what it stands beside, each part a process. Do not give them a real-time
// priority: Go's spinning threads and the kernel's, which carry loopback, then keep each other from running. nice will do.
type processes struct {
	*field
	worker, publisher *relaytest.Process
	log               *os.File
}

// newProcesses starts everything, and returns when every way answers.
func newProcesses(b *testing.B) *processes {
	b.Helper()
	s := &processes{field: &field{client: newClient(b)}}
	s.openLog(b)
	var at struct{ broker, backend, hop, gateway, sealed, sidecar string }
	ports := relaytest.FreePorts(b, 6)
	for i, address := range []*string{&at.broker, &at.backend, &at.hop, &at.gateway, &at.sealed, &at.sidecar} {
		*address = "127.0.0.1:" + ports[i]
	}
	broker, target := "nats://"+at.broker, "http://"+at.backend
	made, seed := initialize(b, setup.Config{Apps: []setup.App{{Name: relaytest.App}}, Services: []string{relaytest.Service}, NATSURL: broker})
	var host string
	host, s.token = workspace(b)
	s.part(b, "hop", at.hop, target)
	s.part(b, "gateway's HTTP half", at.gateway, broker, seed)
	s.part(b, "gateway's NATS half", target, broker, seed)
	s.part(b, "sealed HTTP half", at.sealed, broker, seed)
	s.part(b, "sealed NATS half", target, broker, seed)
	s.relay(b, made, at.backend, at.sidecar, "--workspace", host)
	s.paths = ways(target, "http://"+at.hop, "http://"+at.gateway, "http://"+at.sealed, "http://"+at.sidecar)
	for _, p := range s.paths {
		s.await(b, p)
	}
	return s
}

// initialize makes the files of a relay, and the seed of a user who may do anything on its account.
func initialize(b *testing.B, c setup.Config) (made setup.Result, rootSeed string) {
	b.Helper()
	c.Dir = filepath.Join(b.TempDir(), "relay")
	made, err := setup.Init(c)
	relaytest.Must(b, err)
	root := relaytest.NewUser(b)
	conf, err := os.ReadFile(made.ServerConf)
	relaytest.Must(b, err)
	relaytest.Must(b, os.WriteFile(made.ServerConf, []byte(relaytest.WithRoot(string(conf), root)), 0o600))
	return made, seedFile(b, root)
}

// relay starts the backend, the broker, the worker with more flags, and the publisher.
func (s *processes) relay(b *testing.B, made setup.Result, backend, sidecar string, workerFlags ...string) {
	b.Helper()
	s.part(b, "backend", backend)
	bin := relaytest.Build(b, built)
	command := func(name string, args ...string) *relaytest.Process {
		return s.start(b, filepath.Join(bin, name), nil, args...)
	}
	command("obo-broker", "--config", made.ServerConf)
	s.worker = command("obo-worker", append(workerFlags, "--kit-file", made.Side(relay.RoleService, relaytest.Service).KitFile, "--forward", "http://"+backend)...)
	s.publisher = command("obo-publisher", "--kit-file", made.Side(relay.RoleApp, relaytest.App).KitFile, "--route", relaytest.Service+"="+sidecar)
}

// part starts one of parts, from a copy of this binary: of one file in two processes the one finds in the processor's caches what
// the other has run, which the relay's binaries do not, nor parts on different machines.
func (s *processes) part(b *testing.B, name string, args ...string) {
	b.Helper()
	binary, err := os.ReadFile(os.Args[0])
	relaytest.Must(b, err)
	path := filepath.Join(b.TempDir(), "part")
	relaytest.Must(b, os.WriteFile(path, binary, 0o700))
	s.start(b, path, []string{partVariable + "=" + name}, args...)
}

// openLog opens the file that all parts write to; of a benchmark that fails its end is shown.
func (s *processes) openLog(b *testing.B) {
	b.Helper()
	var err error
	s.log, err = os.Create(filepath.Join(b.TempDir(), "log"))
	relaytest.Must(b, err)
	b.Cleanup(func() {
		_ = s.log.Close() // others wrote to it
		if text, err := os.ReadFile(s.log.Name()); b.Failed() {
			b.Logf("the end of the log (%v):\n%s", err, text[max(0, len(text)-4<<10):])
		}
	})
}

func (s *processes) start(b *testing.B, path string, env []string, args ...string) *relaytest.Process {
	b.Helper()
	p := &relaytest.Process{Path: path, Args: args, Env: env, Log: s.log}
	p.Start(b)
	return p
}

// await waits until a way answers.
func (s *processes) await(b *testing.B, p path) {
	b.Helper()
	await(b, p.name, func() error { return s.echo(p.url, size) })
}

// await waits until something succeeds.
func await(b *testing.B, name string, try func() error) {
	b.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(relaytest.Patience); ; <-tick.C {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s: %v", name, err)
		}
	}
}

// workspace is the sandbox, which says whose token it is, and a token of the size of a real one. It is asked once a minute.
func workspace(b *testing.B) (url, token string) {
	b.Helper()
	ws, err := sandbox.New(sandbox.Config{Users: []sandbox.User{{UserName: "alice@example.com", Groups: []string{"analysts"}}}})
	relaytest.Must(b, err)
	api, err := ws.Listen("127.0.0.1:0")
	relaytest.Must(b, err)
	b.Cleanup(func() { _ = api.Close() }) // with it go those who asked
	token, err = ws.Token("alice@example.com", sandbox.TokenOptions{
		Scopes: []string{sandbox.ScopeCurrentUserRead, sandbox.ScopeAccessControlRead, strings.Repeat("x", 400)},
	})
	relaytest.Must(b, err)
	return api.URL(), token
}

// BenchmarkStart is from nothing but a broker to the first answered request: the processes of worker and publisher, the
// sidecar, keys, grant.
func BenchmarkStart(b *testing.B) {
	s := newProcesses(b)
	relayed := s.paths[atOurs]
	first := &run{}
	for b.Loop() {
		for _, p := range []*relaytest.Process{s.publisher, s.worker} {
			_ = p.End(syscall.SIGKILL) // its exit status says that it was killed
		}
		start := time.Now()
		s.worker.Start(b)
		s.publisher.Start(b)
		s.await(b, relayed)
		first.times = append(first.times, time.Since(start))
	}
	slices.Sort(first.times)
	b.ReportMetric(ms(first.at(0.5)), "ms-to-first-answer")
	b.ReportMetric(ms(first.at(1)), "ms-slowest") // the two processes race, so one number does not tell
	b.ReportMetric(0, "ns/op")
}
