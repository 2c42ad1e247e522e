//go:build unix

// Package browser lets a web page in a real Chromium attack a real sidecar.
package browser

import (
	"context"
	_ "embed"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
)

//go:embed testdata/attack.html
var attackPage string

// answer is what the worker says. No page may read it.
const answer = "ANSWER-OF-THE-WORKER"

// patience is how long a page has for all its moves, on a busy machine.
const patience = 3 * time.Minute

// report is what a page says of one of its moves.
type report struct {
	Move, Base, Read, Note string
	Opened                 bool
}

// seen is a request as it came to the sidecar, and what the sidecar answered.
type seen struct {
	method, host, path, name string
	status                   int
	body                     string
}

// stage is a sidecar with a worker behind it, and the attacker's server.
type stage struct {
	t        *testing.T
	chromium string
	sidecar  *httptest.Server
	home     *httptest.Server
	port     string // the sidecar's
	handled  atomic.Int64
	reports  chan []report

	mu   sync.Mutex
	seen []seen
}

// TestSidecarFromABrowser lets a page of another origin, and one whose name is rebound to the sidecar's address, do to it
// what pages can do. Each request is to be refused by the sidecar itself, nothing may reach the worker, and no page may
// read what the worker says. It needs a Chromium, so it runs only where OBO_CHROMIUM names one: make browser.
func TestSidecarFromABrowser(t *testing.T) {
	chromium := os.Getenv("OBO_CHROMIUM")
	if chromium == "" {
		t.Log("NOT RUN: it needs a Chromium. make browser runs it")
		return
	}
	s := newStage(t, chromium)
	s.reach() // the control: the same address, called by a program
	token := relaytest.Token("mallory", time.Now().Add(time.Hour))
	page := func(origin string, query url.Values) string {
		query.Set("home", s.home.URL)
		query.Set("token", token)
		return origin + "/?" + query.Encode()
	}

	loopback := "http://127.0.0.1:" + s.port
	named := "http://attacker.test:" + s.port // a name that its owner points at loopback
	homePort := mustPort(t, s.home.URL)
	s.attack("cross-site page", page("http://evil.test:"+homePort, url.Values{
		"name": {"cross-site"}, "bases": {strings.Join([]string{loopback, "http://localhost:" + s.port, named}, ",")},
	}), 3)
	s.attack("page on another port of loopback", page("http://127.0.0.1:"+homePort, url.Values{"name": {"same-site"}, "bases": {loopback}}), 1)
	rebind := s.rebinder()
	s.attack("rebound name", page("http://rebind.test:"+s.port, url.Values{"name": {"rebound"}, "bases": {"self"}, "flip": {"1"}}), 1)
	if !rebind.Load() {
		t.Error("the name was never rebound")
	}
	s.navigate("typed address", loopback+"/typed")
	s.navigate("typed name", named+"/typed")
}

func newStage(t *testing.T, chromium string) *stage {
	t.Helper()
	s := &stage{t: t, chromium: chromium, reports: make(chan []report, 1)}
	n := relaytest.New(t, io.Discard)
	n.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.handled.Add(1)
		_, _ = io.WriteString(w, answer)
	}), nil)
	sidecar, err := publisher.NewSidecar(publisher.SidecarConfig{Transport: n.Publisher(nil), Service: relaytest.Service, Log: slog.New(slog.DiscardHandler)})
	relaytest.Must(t, err)
	s.sidecar = httptest.NewServer(s.watch(sidecar))
	t.Cleanup(s.sidecar.Close)
	s.port = mustPort(t, s.sidecar.URL)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage)
	mux.HandleFunc("GET /redirect", func(w http.ResponseWriter, r *http.Request) { redirect(w, r) })
	mux.HandleFunc("POST /redirect", func(w http.ResponseWriter, r *http.Request) { redirect(w, r) })
	mux.HandleFunc("POST /report", func(_ http.ResponseWriter, r *http.Request) {
		var all []report
		if err := json.NewDecoder(r.Body).Decode(&all); err != nil {
			t.Error(err)
		}
		s.reports <- all
	})
	s.home = httptest.NewServer(mux)
	t.Cleanup(s.home.Close)
	return s
}

func servePage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = io.WriteString(w, attackPage)
}

func redirect(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.FormValue("code"))
	if err != nil {
		code = http.StatusFound
	}
	w.Header().Set("Location", r.FormValue("to"))
	w.WriteHeader(code)
}

func mustPort(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	relaytest.Must(t, err)
	return u.Port()
}

// watch notes each request that comes to the sidecar with its answer.
func (s *stage) watch(sidecar http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kept := &keeper{ResponseWriter: w}
		name := r.URL.Query().Get("from")
		sidecar.ServeHTTP(kept, r)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, seen{r.Method, r.Host, r.URL.Path, name, kept.status, string(kept.body)})
	})
}

// keeper keeps a copy of an answer.
type keeper struct {
	http.ResponseWriter
	status int
	body   []byte
}

func (k *keeper) WriteHeader(status int) {
	if k.status == 0 {
		k.status = status
	}
	k.ResponseWriter.WriteHeader(status)
}

func (k *keeper) Write(p []byte) (int, error) {
	k.body = append(k.body, p...)
	return k.ResponseWriter.Write(p)
}

func (k *keeper) Unwrap() http.ResponseWriter { return k.ResponseWriter }

func (s *stage) take() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.seen
	s.seen = nil
	return out
}

// reach calls the sidecar as an app does: it works, so what is refused later is refused for where it comes from.
func (s *stage) reach() {
	s.t.Helper()
	r, err := http.NewRequest("GET", s.sidecar.URL+"/control", nil)
	relaytest.Must(s.t, err)
	r.Header.Set(relay.HeaderAccessToken, relaytest.Token("alice", time.Now().Add(time.Hour)))
	resp, err := http.DefaultClient.Do(r)
	relaytest.Must(s.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	relaytest.Must(s.t, err)
	if string(body) != answer || s.handled.Swap(0) != 1 {
		s.t.Fatalf("the control does not reach the worker: %s %s", resp.Status, body)
	}
	s.take()
}

// attack opens a page and judges what it could do at as many addresses.
func (s *stage) attack(name, page string, addresses int) {
	s.t.Helper()
	s.take()
	stop := s.open(page)
	var all []report
	select {
	case all = <-s.reports:
	case <-time.After(patience):
		s.t.Fatalf("%s: the page has reported nothing in %v", name, patience)
	}
	stop()
	came := s.take()
	s.judge(name, came)
	moves := map[string]bool{}
	for _, c := range came {
		moves[c.host+c.path] = true
	}
	for _, r := range all {
		if r.Opened {
			s.t.Errorf("%s: %s at %s succeeded", name, r.Move, r.Base)
		}
		// Who owns the name that is rebound may read the refusal, and nothing else.
		if r.Read != "" && !strings.Contains(r.Read, string(relay.CodeBrowserRefused)) || strings.Contains(r.Read, answer) || r.Read != "" && !strings.Contains(page, "flip=1") {
			s.t.Errorf("%s: %s at %s read %q", name, r.Move, r.Base, r.Read)
		}
	}
	if len(all) < 35*addresses || len(moves) < 30*addresses {
		s.t.Errorf("%s: %d moves were made, %d came to the sidecar: the check would see little", name, len(all), len(moves))
	}
	s.t.Logf("%s: %d moves, %d requests at the sidecar", name, len(all), len(came))
}

// judge wants each request refused by the sidecar because a browser sent it.
func (s *stage) judge(name string, came []seen) {
	s.t.Helper()
	for _, c := range came {
		refused := c.status == http.StatusForbidden && (c.method == http.MethodHead || strings.Contains(c.body, string(relay.CodeBrowserRefused)))
		if !refused {
			s.t.Errorf("%s: %s %s%s was answered with %d %s", name, c.method, c.host, c.path, c.status, c.body)
		}
	}
	if n := s.handled.Swap(0); n != 0 {
		s.t.Errorf("%s: %d requests reached the worker", name, n)
	}
}

// navigate opens the sidecar's own address.
func (s *stage) navigate(name, address string) {
	s.t.Helper()
	s.take()
	stop := s.open(address)
	var came []seen
	for deadline := time.Now().Add(patience); ; {
		came = append(came, s.take()...)
		if slices.ContainsFunc(came, func(c seen) bool { return c.path == "/typed" }) {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: the browser never came", name)
		}
		pause(50 * time.Millisecond)
	}
	stop()
	s.judge(name, append(came, s.take()...))
}

func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// rebinder stands at another loopback address on the sidecar's port: it serves the attacker's page, and once that asks for
// it passes connections on to the sidecar, as a name does whose owner changes its address.
func (s *stage) rebinder() *atomic.Bool {
	s.t.Helper()
	rebound := new(atomic.Bool)
	listener, err := net.Listen("tcp", "127.0.0.2:"+s.port)
	relaytest.Must(s.t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage)
	mux.HandleFunc("GET /flip", func(http.ResponseWriter, *http.Request) { rebound.Store(true) })
	before := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	before.SetKeepAlivesEnabled(false)
	own := &handedOver{addr: listener.Addr(), conns: make(chan net.Conn)}
	var wait sync.WaitGroup
	wait.Go(func() { _ = before.Serve(own) })
	wait.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			if !rebound.Load() {
				own.conns <- c
				continue
			}
			sidecar, err := net.Dial("tcp", "127.0.0.1:"+s.port)
			if err != nil {
				_ = c.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{c, sidecar}, {sidecar, c}} {
				wait.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_, _ = c.Close(), sidecar.Close()
				})
			}
		}
	})
	s.t.Cleanup(func() {
		_ = listener.Close()
		_ = before.Close()
		wait.Wait()
	})
	return rebound
}

// handedOver is a listener for connections that somebody else has accepted.
type handedOver struct {
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
}

func (h *handedOver) Accept() (net.Conn, error) {
	if c, ok := <-h.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (h *handedOver) Close() error   { h.once.Do(func() { close(h.conns) }); return nil }
func (h *handedOver) Addr() net.Addr { return h.addr }

// open starts a browser with an empty profile at an address. The names of the attack are those of a resolver of the
// attacker's; that the sidecar is on loopback is no protection here, so the browser's own for that is off.
func (s *stage) open(address string) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	cmd := exec.CommandContext(ctx, s.chromium, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-popup-blocking",
		"--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights",
		"--host-resolver-rules=MAP rebind.test 127.0.0.2, MAP *.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
		"--user-data-dir="+s.t.TempDir(), address)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	relaytest.Must(s.t, cmd.Start())
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }() // it is killed
	stop = sync.OnceFunc(func() { cancel(); <-done })
	s.t.Cleanup(stop)
	return stop
}
