// Package memory measures what stays of tokens and bodies in the memory of the real processes, after the requests that
// carried them have ended.
package memory

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/deploy/setup"
	"github.com/obo-relay/obo-relay/relay"
)

const (
	people    = 100
	tokenLife = 30 * time.Second // so grants end with it
)

// stage is the three processes.
type stage struct {
	t         *testing.T
	processes []*relaytest.Process
	sidecar   string
	client    *http.Client
	canaries  []canary
}

// canary is a string that each person's request has at one place, followed by a number.
type canary struct {
	name   string
	text   string
	hidden [][]byte // the same inside base64
}

// TestMemory prints how often the canaries of requests are found in the memory of obo-publisher, obo-worker and obo-broker,
// at several times after the requests have ended. It takes six minutes and reads other processes' memory, which root may, so
// it runs only where OBO_MEMORY is set: make memory.
func TestMemory(t *testing.T) {
	if os.Getenv("OBO_MEMORY") == "" {
		t.Log("NOT RUN: it takes six minutes and needs root. make memory runs it")
		return
	}
	s := newStage(t)
	t.Logf("hits in writable memory of %d people's token / request body / response body", people)
	s.count("before")
	start := time.Now()
	s.requests(people, true)
	first := s.count("at once")
	if first["obo-publisher"] == 0 || first["obo-worker"] == 0 {
		t.Error("nothing is found right after the requests: the search does not work")
	}
	for _, at := range []struct {
		after time.Duration
		name  string
	}{
		{15 * time.Second, "after 15 s (replies are no longer kept)"},
		{tokenLife + relay.Leeway + 15*time.Second, "after 75 s (tokens and grants have run out)"},
		{4 * time.Minute, "after 4 min (Go has collected garbage by itself)"},
		{5*time.Minute + 30*time.Second, "after 5.5 min"},
	} {
		sleepUntil(start.Add(at.after))
		last := s.count(at.name)
		if last["obo-broker"] != 0 {
			t.Error("the broker has seen something in clear")
		}
	}
	s.requests(3000, false)
	s.count("after 3000 requests of somebody else")
}

func sleepUntil(at time.Time) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	<-timer.C
}

func newCanary(name string) canary {
	c := canary{name: name, text: strings.ToUpper(name) + relay.NewID().String()[:16] + "-"}
	for shift := range 3 { // inside base64 the same bytes look like one of three
		encoded := base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + c.text))
		begin, end := (shift*4+2)/3, len(encoded)-2
		c.hidden = append(c.hidden, []byte(encoded[begin:end]))
	}
	return c
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, canaries: []canary{newCanary("token"), newCanary("request"), newCanary("response")}, client: &http.Client{Timeout: time.Minute}}
	t.Cleanup(s.client.CloseIdleConnections)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, r.URL.Query().Get("say"))
	}))
	t.Cleanup(app.Close)
	bin := relaytest.Build(t, t.TempDir())
	ports := relaytest.FreePorts(t, 2)
	made, err := setup.Init(setup.Config{
		Dir: filepath.Join(t.TempDir(), "relay"), Apps: []setup.App{{Name: relaytest.App}}, Services: []string{relaytest.Service}, NATSURL: "nats://127.0.0.1:" + ports[0],
	})
	relaytest.Must(t, err)
	s.sidecar = "http://127.0.0.1:" + ports[1]
	s.start(bin, "obo-broker", "--config", made.ServerConf)
	s.start(bin, "obo-worker", "--kit-file", made.Side(relay.RoleService, relaytest.Service).KitFile, "--forward", app.URL, "--user-lookup", "off")
	s.start(bin, "obo-publisher", "--kit-file", made.Side(relay.RoleApp, relaytest.App).KitFile, "--route", relaytest.Service+"=127.0.0.1:"+ports[1])
	for deadline := time.Now().Add(time.Minute); s.send("nobody", "x", "x") != nil; {
		if time.Now().After(deadline) {
			t.Fatal("the relay does not answer")
		}
		sleepUntil(time.Now().Add(100 * time.Millisecond))
	}
	return s
}

func (s *stage) start(bin, name string, args ...string) {
	s.t.Helper()
	p := &relaytest.Process{Path: filepath.Join(bin, name), Args: args}
	p.Start(s.t)
	s.processes = append(s.processes, p)
}

// requests sends as many requests, each of a person of its own, with canaries or with the same bytes less those.
func (s *stage) requests(n int, canaries bool) {
	s.t.Helper()
	work := make(chan int)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for i := range work {
				text := func(k int) string {
					if !canaries {
						return fmt.Sprintf("somebody else's %016d-%04d", i, i)
					}
					return fmt.Sprintf("%s%04d", s.canaries[k].text, i)
				}
				if err := s.send(text(0), text(1), text(2)); err != nil {
					s.t.Error(err)
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	wait.Wait()
}

// send makes a POST whose token has a signature of that text.
func (s *stage) send(token, body, answer string) error {
	r, err := http.NewRequest("POST", s.sidecar+"/do?say="+strings.ReplaceAll(answer, " ", "+"), strings.NewReader(strings.Repeat("x", 1000)+body))
	if err != nil {
		return err
	}
	unsigned := strings.TrimSuffix(relaytest.Token("person", time.Now().Add(tokenLife)), "c2ln")
	r.Header.Set(relay.HeaderAccessToken, unsigned+strings.ReplaceAll(token, " ", ""))
	resp, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(got) != answer) {
		err = fmt.Errorf("%s: %s", resp.Status, got)
	}
	return err
}

// count prints the hits in each process, and returns those of tokens.
func (s *stage) count(when string) map[string]int {
	s.t.Helper()
	tokens := map[string]int{}
	line := fmt.Sprintf("%-50s", when)
	for _, p := range s.processes {
		var hits [3]int
		var whose [3]map[string]bool
		for k := range whose {
			whose[k] = map[string]bool{}
		}
		size, err := scan(p.Pid(), func(b []byte) {
			for k, c := range s.canaries {
				for rest := b; ; {
					i := bytes.Index(rest, []byte(c.text))
					if i < 0 {
						break
					}
					rest = rest[i+len(c.text):]
					hits[k]++
					whose[k][string(rest[:min(4, len(rest))])] = true
				}
				for _, h := range c.hidden {
					hits[k] += bytes.Count(b, h)
				}
			}
		})
		if err != nil {
			s.t.Fatalf("reading the memory of %s: %v (root may)", p.Name(), err)
		}
		tokens[p.Name()] = hits[0]
		line += fmt.Sprintf("  %s %d (%d people) / %d / %d in %d MB", strings.TrimPrefix(p.Name(), "obo-"), hits[0], len(whose[0]), hits[1], hits[2], size>>20)
	}
	s.t.Log(line)
	return tokens
}

// scan reads the writable memory of a process, piece by piece.
func scan(pid int, look func([]byte)) (size int, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return 0, err
	}
	defer mem.Close()
	const piece = 4 << 20
	buf := make([]byte, piece+21) // one less than the shortest canary: what lies across two pieces is found, and once
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			return 0, err
		}
		if !strings.HasPrefix(mode, "rw") {
			continue
		}
		for at := from; at < to; at += piece {
			n, err := mem.ReadAt(buf[:min(uint64(len(buf)), to-at)], int64(at))
			if n == 0 && err != nil && !errors.Is(err, io.EOF) {
				break // a page that is not there
			}
			size += min(n, piece)
			look(buf[:n])
		}
	}
	return size, nil
}
