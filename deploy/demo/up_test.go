package demo

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/obo-relay/obo-relay/deploy/setup"
)

// notice is a writer that tells when a text has been written.
type notice struct {
	mu   sync.Mutex
	text strings.Builder
	want string
	seen chan struct{}
}

func (n *notice) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := strings.Contains(n.text.String(), n.want)
	n.text.Write(p)
	if !before && strings.Contains(n.text.String(), n.want) {
		close(n.seen)
	}
	return len(p), nil
}

func TestUp(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &notice{want: "Ctrl-C", seen: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- Up(ctx, UpOptions{Out: out}) }()
	select {
	case <-out.seen:
	case err := <-ended:
		t.Fatal(err)
	}
	text := out.text.String()
	if !strings.Contains(text, "SANDBOX") {
		t.Errorf("it does not say that it is a sandbox:\n%s", text)
	}
	address := regexp.MustCompile(`look at +(http://\S+)`).FindStringSubmatch(text)
	dir := regexp.MustCompile(`files +(\S+)`).FindStringSubmatch(text)
	if address == nil || dir == nil {
		t.Fatalf("addresses are missing:\n%s", text)
	}
	client := newProgram()
	defer client.CloseIdleConnections()
	resp, err := client.Get(address[1])
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // only the status matters
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the page answers %s", resp.Status)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir[1]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left behind: %v", dir[1], err)
	}
	if c, err := net.Dial("tcp", strings.TrimPrefix(address[1], "http://")); err == nil {
		_ = c.Close() // it should not have been there
		t.Error("the page is still served")
	}
}

func TestUpKeepsToThisMachine(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80", "example.com:80", "nonsense"} {
		err := Up(t.Context(), UpOptions{Out: new(strings.Builder), Listen: address})
		if err == nil || !strings.Contains(err.Error(), "127.0.0.1:") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestUpPortTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := filepath.Join(t.TempDir(), "relay")
	err = Up(t.Context(), UpOptions{Config: Config{Dir: dir}, Out: new(strings.Builder), Listen: taken.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files were made for nothing: %v", err)
	}
}

// The files of a relay that is in use stay as they are.
func TestUpLeavesOtherRelaysAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made, err := setup.Init(setup.Config{Dir: dir, Apps: []setup.App{{Name: "ui"}}, Services: []string{"middleware"}})
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(made.ServerConf)
	if err != nil {
		t.Fatal(err)
	}
	err = Up(t.Context(), UpOptions{Config: Config{Dir: dir}, Out: new(strings.Builder)})
	if err == nil || !strings.Contains(err.Error(), "choose another directory") {
		t.Errorf("%v", err)
	}
	if after, err := os.ReadFile(made.ServerConf); err != nil || string(after) != string(before) {
		t.Errorf("nats-server.conf is another now (%v)", err)
	}
}

// Its own files it may take again, but not while they are in use.
func TestUpAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "relay")
	for range 2 {
		ctx, stop := context.WithCancel(t.Context())
		out := writerFunc(func(b []byte) (int, error) {
			if strings.Contains(string(b), "Stop it with") {
				if err := Up(ctx, UpOptions{Config: Config{Dir: dir}, Out: io.Discard}); err == nil || !strings.Contains(err.Error(), "is in use") {
					t.Errorf("at the same time: %v", err)
				}
				stop()
			}
			return len(b), nil
		})
		if err := Up(ctx, UpOptions{Config: Config{Dir: dir}, Out: out}); err != nil {
			t.Fatal(err)
		}
	}
}

// Of several that start at the same time in one directory one runs, and keeps its files.
func TestUpAtTheSameTime(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "relay")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error)
	const all = 3
	for range all {
		go func() { ended <- Up(ctx, UpOptions{Config: Config{Dir: dir}, Out: io.Discard}) }()
	}
	for range all - 1 {
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "is in use") {
			t.Errorf("%v", err)
		}
	}
	stop()
	<-ended // perhaps before everything was there
}

// Another program may have taken a port that it had.
func TestUpAfterItsPortWasTaken(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "relay")
	made, err := setup.Init(setup.Config{Dir: dir, Apps: []setup.App{{Name: uiApp}}, Services: []string{middlewareApp}, NATSURL: "nats://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	release, err := tokenFilesIn(dir).claim()
	if err != nil {
		t.Fatal(err)
	}
	release()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := setup.Init(setup.Config{Dir: dir, NATSURL: "nats://" + other.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	out := writerFunc(func(b []byte) (int, error) { stop(); return len(b), nil })
	if err := Up(ctx, UpOptions{Config: Config{Dir: made.Config.Dir}, Out: out}); err != nil {
		t.Error(err)
	}
}

// A directory that is somebody else's stays as it is.
func TestUpLeavesNothingWhereItMayNotBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "nats-server.conf"), []byte("port: 4222\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Up(t.Context(), UpOptions{Config: Config{Dir: dir}, Out: io.Discard}); err == nil || !strings.Contains(err.Error(), "was not made here") {
		t.Errorf("%v", err)
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) != 1 {
		t.Errorf("%v, %v", there, err)
	}
}

// Also after a first start that was killed before everything was there.
func TestUpAfterAKilledStart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "relay")
	killed, stop := context.WithCancel(t.Context())
	stop()
	if err := Up(killed, UpOptions{Config: Config{Dir: dir}, Out: io.Discard}); err == nil {
		t.Fatal("it was not stopped")
	}
	if _, err := setup.Read(dir); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	out := writerFunc(func(b []byte) (int, error) { stop(); return len(b), nil })
	if err := Up(ctx, UpOptions{Config: Config{Dir: dir}, Out: out}); err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestColor(t *testing.T) {
	t.Parallel()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0) // a character device, as a terminal is
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	env := func(vars map[string]string) func(string) string {
		return func(name string) string { return vars[name] }
	}
	if !ColorFor(null, env(nil)) {
		t.Error("no colour on a device")
	}
	for _, vars := range []map[string]string{{"NO_COLOR": "1"}, {"TERM": "dumb"}} {
		if ColorFor(null, env(vars)) {
			t.Errorf("colour with %v", vars)
		}
	}
	if ColorFor(new(strings.Builder), env(nil)) {
		t.Error("colour in a buffer")
	}
}
