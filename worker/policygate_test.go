package worker

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

func newTestGate(p *Policy, lookup Lookup) *gate {
	return newGate(Config{Policy: p, Lookup: lookup, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
}

// directory is a look-up whose groups can be changed.
type directory struct{ groups atomic.Pointer[[]string] }

func newDirectory(groups ...string) *directory {
	d := &directory{}
	d.set(groups...)
	return d
}

func (d *directory) set(groups ...string) { d.groups.Store(&groups) }

func (d *directory) User(context.Context, relay.Token) (*User, error) {
	return someUser(*d.groups.Load()...), nil
}

func TestGateWithoutPolicyLetsEveryVerifiedPersonPass(t *testing.T) {
	v := newTestGate(nil, newDirectory()).judge(t.Context(), relay.NewID(), aliceToken(t), "GET", "/x")
	if v.refusal != nil || v.user == nil || v.rule != "" || v.denied {
		t.Errorf("got %+v", v)
	}
	unknown := &refusing{relay.NewError(relay.CodeTokenRejected, "no")}
	v = newTestGate(rules(t, "/ = anyone"), unknown).judge(t.Context(), relay.NewID(), aliceToken(t), "GET", "/x")
	if !errors.Is(v.refusal, relay.CodeTokenRejected) || v.denied || v.user != nil {
		t.Errorf("a person whom the workspace rejects: %+v", v)
	}
}

type refusing struct{ err error }

func (r *refusing) User(context.Context, relay.Token) (*User, error) { return nil, r.err }

// A group that was taken from a person in the workspace counts no more when the look-up's answer is a minute old.
func TestGateFollowsGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory("analysts")
		lookup := newTestLookup(t, LookupConfig{Ask: d.User})
		g := newTestGate(rules(t, "/ = analysts"), lookup)
		token := testToken(t, testJWT("alice", time.Now().Add(time.Hour)))
		allowed := func() bool {
			v := g.judge(t.Context(), relay.NewID(), token, "GET", "/x")
			if v.refusal != nil && !errors.Is(v.refusal, relay.CodeForbidden) {
				t.Fatal(v.refusal)
			}
			return v.refusal == nil
		}
		if !allowed() {
			t.Fatal("not allowed at first")
		}
		d.set()
		time.Sleep(maxLookupTTL - time.Millisecond)
		if !allowed() {
			t.Error("the answer was not kept for a minute, so this test proves nothing")
		}
		time.Sleep(time.Millisecond)
		if allowed() {
			t.Error("a group that was removed still counts after a minute")
		}
		d.set("analysts")
		time.Sleep(maxLookupTTL)
		if !allowed() {
			t.Error("a group that was given does not count after a minute")
		}
	})
}

// While policies change, each decision is wholly the one's or wholly the other's.
func TestGateUnderReload(t *testing.T) {
	a := rules(t, "/ = anyone", "/admin = deny")
	b := rules(t, "/admin = admins")
	g := newTestGate(a, newDirectory())
	w := &Worker{gate: g, cfg: Config{Lookup: g.lookup}}
	var wait sync.WaitGroup
	stop := make(chan struct{})
	wait.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := w.SetPolicy([]*Policy{a, b}[i%2]); err != nil {
				t.Error(err)
			}
		}
	})
	token := aliceToken(t)
	var askers sync.WaitGroup
	for range 8 {
		askers.Go(func() {
			for range 2000 {
				if v := g.judge(t.Context(), relay.NewID(), token, "GET", "/admin/"); v.refusal == nil || !v.denied {
					t.Errorf("let through: %+v", v)
				}
			}
		})
	}
	askers.Wait()
	close(stop)
	wait.Wait()
}

func TestPolicyNeedsTheLookup(t *testing.T) {
	open := rules(t, "/a = anyone", "/b = deny")
	closed := rules(t, "/a = analysts")
	users := mustPolicy(t, policyHead+"  - {match: /a, users: [x]}\n")
	for _, p := range []*Policy{closed, users} {
		_, err := New(Config{Policy: p})
		if err == nil || !strings.Contains(err.Error(), "--user-lookup=on") {
			t.Errorf("got %v", err)
		}
		if _, err = New(Config{Policy: p, Lookup: newDirectory()}); strings.Contains(err.Error(), "look-up") {
			t.Errorf("got %v", err)
		}
	}
	g := newTestGate(open, nil)
	w := &Worker{gate: g}
	for name, p := range map[string]*Policy{"groups": closed, "users": users, "none": nil} {
		if err := w.SetPolicy(p); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if g.policy.Load() != open {
		t.Error("the policy in force was replaced")
	}
	if v := g.judge(t.Context(), relay.NewID(), aliceToken(t), "GET", "/a"); v.refusal != nil || v.user != nil {
		t.Errorf("got %+v", v)
	}
}

func TestGateChecksTokens(t *testing.T) {
	g := newTestGate(nil, newDirectory())
	if err := g.check(testToken(t, "dapi0123456789abcdef")); !errors.Is(err, relay.CodeTokenOpaque) {
		t.Errorf("opaque: %v", err)
	}
	if err := g.check(testToken(t, testJWT("a", time.Now().Add(-31*time.Second)))); !errors.Is(err, relay.CodeTokenExpired) {
		t.Errorf("expired: %v", err)
	}
	if err := g.check(testToken(t, testJWT("a", time.Now().Add(-20*time.Second)))); err != nil {
		t.Errorf("within the leeway: %v", err)
	}
	g.opaque = true
	if err := g.check(testToken(t, "dapi0123456789abcdef")); err != nil {
		t.Errorf("opaque, allowed: %v", err)
	}
}

func TestStripSteering(t *testing.T) {
	h := http.Header{
		"Script_name": {"/public"}, "SCRIPT_NAME": {"/public"}, "Script-Name": {"/public"}, "PATH_INFO": {"/admin"}, "path-info": {"/admin"},
		"X-Original-Url": {"/admin"}, "x_original_url": {"/admin"}, "X-Rewrite-Url": {"/admin"}, "X-Script-Name": {"/x"}, "X-Original-Method": {"DELETE"},
		"X-Http-Method-Override": {"DELETE"}, "x_http_method": {"DELETE"}, "X-Method-Override": {"DELETE"}, "Accept": {"*/*"},
	}
	relay.StripRequest(h)
	if len(h) != 1 || h.Get("Accept") == "" {
		t.Errorf("left: %v", h)
	}
}
