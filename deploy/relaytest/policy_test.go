package relaytest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// people is a workspace: it knows persons by their tokens.
type people map[string]*worker.User

func (p people) User(_ context.Context, token relay.Token) (*worker.User, error) {
	if u := p[token.Reveal()]; u != nil {
		return u, nil
	}
	return nil, relay.NewError(relay.CodeTokenRejected, "the workspace does not know this token")
}

// records are the audit records of a worker.
type records struct {
	mu    sync.Mutex
	all   []worker.AuditRecord
	text  bytes.Buffer
	fault error
}

func (r *records) Audit(_ context.Context, a *worker.AuditRecord) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, *a)
	return errors.Join(r.fault, json.NewEncoder(&r.text).Encode(a))
}

func (r *records) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = err
}

func (r *records) read() ([]worker.AuditRecord, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all), r.text.String()
}

func policyOf(t *testing.T, text string) *worker.Policy {
	t.Helper()
	p, err := worker.ParsePolicy("policy.yaml", []byte("type: obo.v1.policy\nexplain: true\nrules:\n"+text))
	relaytest.Must(t, err)
	return p
}

// Through the relay alice is let in and bob is kept out, by the groups that the workspace reports, whatever they send; each
// request leaves one record; and another policy takes effect at once.
func TestPolicyAndAudit(t *testing.T) {
	net, log := start(t)
	aliceToken, bobToken := alice(), relaytest.Token("bob", time.Now().Add(time.Hour))
	kept := &records{}
	var mu sync.Mutex
	var served []string
	w, stop := net.Worker(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		served = append(served, r.Method+" "+r.URL.EscapedPath())
		mu.Unlock()
		for name := range r.Header {
			if strings.Contains(strings.ToLower(name), "script") || strings.Contains(strings.ToLower(name), "original") {
				t.Errorf("%s reached the app", name)
			}
		}
		_, _ = io.Copy(w, r.Body)
	}), func(c *worker.Config) {
		c.Lookup = people{
			aliceToken: {ID: "1", UserName: "alice@example.com", Groups: []string{"admins", "analysts"}},
			bobToken:   {ID: "2", UserName: "bob@example.com", Groups: []string{"analysts"}},
		}
		c.Policy = policyOf(t, "  - {match: /, groups: [analysts]}\n  - {match: /admin, groups: [admins]}\n  - {match: /form, deny: true}\n")
		c.Audit = kept
	})
	p := net.Publisher(nil)
	ask := func(token, method, path string, header ...string) reply {
		t.Helper()
		r := newRequest(t, method, path, strings.NewReader("CANARY-body"))
		r.Header.Set(relay.HeaderAccessToken, token)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header[header[i]] = []string{header[i+1]}
		}
		return do(p, r)
	}
	if r := ask(aliceToken, "POST", "/admin?CANARY-query=1", "SCRIPT_NAME", "/public", "X-Original-Url", "/form"); r.err != nil || r.body != "CANARY-body" {
		t.Fatalf("alice: %v, %q", r.err, r.body)
	}
	for _, attempt := range [][]string{
		{"POST", "/admin"}, {"GET", "/admin/"}, {"HEAD", "/%61dmin"}, {"post", "/admin"}, {"GET", "/admin;x"}, {"DELETE", "/admin?x=/"},
		{"POST", "/form", "X-Http-Method-Override", "GET"}, {"PUT", "/admin", "X-Forwarded-Email", "alice@example.com"}, {"GET", "/admin", "X-Forwarded-Groups", "admins"},
	} {
		r := ask(bobToken, attempt[0], attempt[1], attempt[2:]...)
		if !errors.Is(r.err, relay.CodeForbidden) || relay.AsError(r.err).Code.Info().Outcome != relay.NotStarted {
			t.Errorf("bob, %v: %v", attempt, r.err)
		}
	}
	if r := ask(bobToken, "GET", "/admin"); !strings.Contains(r.err.Error(), "the group admins") {
		t.Errorf("no explanation: %v", r.err)
	}
	if r := ask(relaytest.Token("mallory", time.Now().Add(time.Hour)), "GET", "/"); !errors.Is(r.err, relay.CodeTokenRejected) {
		t.Errorf("mallory: %v", r.err)
	}
	relaytest.Must(t, w.SetPolicy(policyOf(t, "  - {match: /x, anyone: true}\n")))
	if r := ask(aliceToken, "GET", "/admin"); !errors.Is(r.err, relay.CodeForbidden) {
		t.Errorf("the old policy is still in force: %v", r.err)
	}
	stop() // every record is kept by then
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(served, []string{"POST /admin"}) {
		t.Errorf("served %q", served)
	}
	all, text := kept.read()
	count := map[string]int{}
	for _, a := range all { // a record is written after the reply, so not in the order of the requests
		name := ""
		if a.User != nil {
			name = a.User.Name
		}
		count[strings.Join([]string{a.Decision, name, string(a.Code)}, " ")]++
		if a.Decision != worker.AuditAllowed {
			continue
		}
		if a.Rule != "/admin" || a.App != relaytest.App || a.Path != "/admin" || a.Status != 200 || a.BytesIn != 11 || a.BytesOut != 11 || a.Instance != w.Instance() || a.Via != worker.AuditRelay {
			t.Errorf("got %+v", a)
		}
	}
	want := map[string]int{"allowed alice@example.com ": 1, "denied bob@example.com forbidden": 10, "denied alice@example.com forbidden": 1, "refused  token_rejected": 1}
	if !maps.Equal(count, want) {
		t.Errorf("got records %v, want %v", count, want)
	}
	for what, where := range map[string]string{"audit": text, "log": log.String()} {
		if strings.Contains(where, "CANARY") || strings.Contains(where, aliceToken) || strings.Contains(where, bobToken) {
			t.Errorf("the %s holds a canary", what)
		}
	}
}

// Where audit is required, a request that cannot be recorded is not started, and one that can is recorded before.
func TestAuditRequired(t *testing.T) {
	net, _ := start(t)
	kept := &records{}
	_, stop := net.Worker(http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) {
		if all, _ := kept.read(); len(all) != 1 || all[0].Event != worker.AuditStarted {
			t.Errorf("served after the records %+v", all)
		}
	}), func(c *worker.Config) { c.Audit, c.AuditRequired = kept, true })
	p := net.Publisher(nil)
	if r := do(p, newRequest(t, "GET", "/", nil)); r.err != nil {
		t.Fatal(r.err)
	}
	stop()
	if all, _ := kept.read(); len(all) != 2 || all[1].Event != worker.AuditEnded || all[1].RequestID != all[0].RequestID {
		t.Errorf("got %+v", all)
	}
}

// Where it cannot, the caller is told so and not why, and a check that the worker is not ready; another worker serves the request.
func TestAuditRequiredAndImpossible(t *testing.T) {
	net, log := start(t)
	broken := &records{fault: errors.New("the disk is full")}
	handler := &counter{}
	w, _ := net.Worker(handler, func(c *worker.Config) { c.Audit, c.AuditRequired = broken, true })
	client, inspect := net.Publisher(nil), newInspector(t, net)
	waitForWorkers(t, net, 1)
	if got := inspect.state(w.Instance()); got != string(relay.Ready) {
		t.Errorf("the worker is %s", got)
	}
	got := send(t, client, "POST", "/")
	got.wantCode(t, relay.CodeAuditDown, "look at the worker's log")
	if e := relay.AsError(got.err); e.Outcome != relay.NotStarted || strings.Contains(e.Error(), "disk") {
		t.Errorf("%v, outcome %s", e, e.Outcome)
	}
	log.Wait(t, "REFUSED", "the disk is full", relay.AsError(got.err).RequestID)
	if got := inspect.state(w.Instance()); got != string(relay.CodeAuditDown) {
		t.Errorf("the worker is %s", got)
	}
	handler.want(t, 0)
	_, stop := net.Worker(says("another"), nil)
	waitForWorkers(t, net, 2)
	for range 4 { // tried at the one, or not
		send(t, client, "POST", "/").want(t, 200, "another")
	}
	stop()
	broken.fail(nil)
	send(t, net.Publisher(nil), "POST", "/").want(t, 200, "")
	handler.want(t, 1)
	if got := inspect.state(w.Instance()); got != string(relay.Ready) {
		t.Errorf("with records again the worker is %s", got)
	}
}
