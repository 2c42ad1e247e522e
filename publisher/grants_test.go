package publisher

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

func newTestGrants(t *testing.T) (*grants, *directory, *testWorker, *testClock) {
	t.Helper()
	d, w, clock := newTestDirectory(t)
	g, err := newGrants(Config{App: "ui", Identity: relay.NewIdentity(), GrantCache: 100, Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	return g, d, w, clock
}

func announced(t *testing.T, d *directory, w *testWorker, clock *testClock) *relay.Announcement {
	t.Helper()
	mustHear(t, d, w.announces(clock.now()))
	for _, c := range wantInstances(t, d, 1) {
		return c.said
	}
	t.FailNow()
	return nil
}

func mustGrant(t *testing.T, g *grants, raw string, a *relay.Announcement) (*relay.Grant, string) {
	t.Helper()
	token, tag, err := g.token(raw)
	if err != nil {
		t.Fatal(err)
	}
	made, err := g.get(token, tag, a)
	if err != nil {
		t.Fatal(err)
	}
	if made.hash != relay.HashGrant(made.compact) {
		t.Error("the hash is of something else")
	}
	return made.Grant, string(made.compact)
}

// One grant for each token and instance key, until shortly before it runs out.
func TestGrantsAreReused(t *testing.T) {
	g, d, w, clock := newTestGrants(t)
	a := announced(t, d, w, clock)
	alice, bob := testJWT("alice", clock.now().Add(time.Hour)), testJWT("bob", clock.now().Add(time.Hour))
	first, compact := mustGrant(t, g, alice, a)
	if again, same := mustGrant(t, g, alice, a); again != first || same != compact {
		t.Error("a second grant for the same token")
	}
	if _, other := mustGrant(t, g, bob, a); other == compact {
		t.Error("one grant for two people")
	}
	if d := first.Expiry.Sub(clock.now()); d > relay.MaxGrantLife || d < relay.MaxGrantLife-2*time.Second {
		t.Errorf("lives %v", d)
	}
	clock.add(relay.MaxGrantLife - grantMargin - 2*time.Second)
	if again, _ := mustGrant(t, g, alice, a); again != first {
		t.Error("replaced too early")
	}
	clock.add(3 * time.Second)
	next, _ := mustGrant(t, g, alice, a)
	if next == first || next.Gid == first.Gid {
		t.Error("not replaced before it runs out")
	}
	if strings.Contains(compact, alice) {
		t.Error("the token stands in the grant")
	}
}

// A trusted service can announce another's instance key, which is public. Neither gets what is made out to the other, so the
// other's requests still arrive.
func TestGrantsAreOfOneService(t *testing.T) {
	g, d, w, clock := newTestGrants(t)
	a := announced(t, d, w, clock)
	claimed := *a
	claimed.Service = "billing"
	alice := testJWT("alice", clock.now().Add(time.Hour))
	theirs, _ := mustGrant(t, g, alice, &claimed)
	ours, _ := mustGrant(t, g, alice, a)
	if ours == theirs {
		t.Error("one grant for two services")
	}
}

// After the identity key was replaced nothing that the old one signed is sent any more.
func TestGrantsFollowTheIdentity(t *testing.T) {
	g, d, w, clock := newTestGrants(t)
	alice, a := testJWT("alice", clock.now().Add(time.Hour)), announced(t, d, w, clock)
	first, _ := mustGrant(t, g, alice, a)
	next := relay.NewIdentity()
	g.setIdentity(next)
	if second, _ := mustGrant(t, g, alice, a); second == first || second.SignedBy != next.Kid() || first.SignedBy == next.Kid() {
		t.Errorf("signed by %s", second.SignedBy)
	}
}

// A new instance key needs new grants.
func TestGrantsFollowTheKey(t *testing.T) {
	g, d, w, clock := newTestGrants(t)
	alice := testJWT("alice", clock.now().Add(time.Hour))
	first, _ := mustGrant(t, g, alice, announced(t, d, w, clock))
	key, err := relay.NewInstanceKey(clock.now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	w.key = key
	second, _ := mustGrant(t, g, alice, announced(t, d, w, clock))
	if second.Rkid != key.Kid() || first.Rkid == second.Rkid {
		t.Error("the grant is for the old key")
	}
}

// A grant never outlives its token, and a token in its last seconds does not cost a grant for each request.
func TestGrantsOfAShortToken(t *testing.T) {
	g, d, w, clock := newTestGrants(t)
	a := announced(t, d, w, clock)
	expiry := clock.now().Add(8 * time.Second).Truncate(time.Second)
	alice := testJWT("alice", expiry)
	first, _ := mustGrant(t, g, alice, a)
	if !first.Expiry.Equal(expiry) {
		t.Errorf("expires %v, the token %v", first.Expiry, expiry)
	}
	clock.add(6 * time.Second)
	if again, _ := mustGrant(t, g, alice, a); again != first {
		t.Error("another grant, which cannot live longer either")
	}
	clock.add(3 * time.Second)
	token, tag, err := g.token(alice)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.get(token, tag, a); !errors.Is(err, relay.CodeTokenExpired) {
		t.Errorf("a grant of an expired token: %v", err)
	}
}

func TestGrantsOfOpaqueTokens(t *testing.T) {
	g, d, w, clock := newTestGrants(t)
	a := announced(t, d, w, clock)
	first, _ := mustGrant(t, g, "dapi0123456789", a)
	if life := first.Expiry.Sub(clock.now()); life > relay.MaxOpaqueLife {
		t.Errorf("lives %v", life)
	}
	clock.add(relay.MaxOpaqueLife - grantMargin + time.Second)
	if again, _ := mustGrant(t, g, "dapi0123456789", a); again == first {
		t.Error("not replaced")
	}
}

// No grant to a key after its announced end, and a failure is not kept.
func TestGrantsOfAnExpiredKey(t *testing.T) {
	g, d, w, clock := newTestGrants(t)
	short := newTestWorker(t, w.identity, 10*time.Second, clock.now())
	a := announced(t, d, short, clock)
	clock.add(11 * time.Second)
	token, tag, err := g.token(testJWT("alice", clock.now().Add(time.Hour)))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := g.get(token, tag, a); !errors.Is(err, relay.CodeNoWorker) {
			t.Error(err)
		}
	}
}

// Many callers with one new token make one grant.
func TestGrantsAreMadeOnce(t *testing.T) {
	g, d, w, clock := newTestGrants(t)
	a := announced(t, d, w, clock)
	raw := testJWT("alice", clock.now().Add(time.Hour))
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			token, tag, _ := g.token(raw)
			made, err := g.get(token, tag, a)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			seen[string(made.compact)] = true
		})
	}
	wg.Wait()
	if len(seen) != 1 {
		t.Errorf("%d grants", len(seen))
	}
}

// A tag tells tokens apart and is worth nothing outside of this process.
func TestTags(t *testing.T) {
	g, _, _, _ := newTestGrants(t)
	other, _, _, _ := newTestGrants(t)
	long := strings.Repeat("a", relay.MaxToken)
	seen := map[tag]string{}
	for _, raw := range []string{"a", "b", "ab", long, long[:len(long)-1] + "b"} {
		if was, ok := seen[g.tag(raw)]; ok {
			t.Errorf("%.8s and %.8s have one tag", raw, was)
		}
		seen[g.tag(raw)] = raw
		if again := g.tag(raw); seen[again] != raw || again == other.tag(raw) {
			t.Errorf("%.8s: the tag is not keyed", raw)
		}
	}
}

// Grants and tokens that have run out are dropped without being asked for; of the others the tokens are, now and then.
func TestGrantsAndTokensAreForgotten(t *testing.T) {
	g, d, w, clock := newTestGrants(t)
	a := announced(t, d, w, clock)
	short, long := testJWT("alice", clock.now().Add(time.Minute)), testJWT("bob", clock.now().Add(time.Hour))
	mustGrant(t, g, short, a)
	mustGrant(t, g, long, a)
	want := func(when string, grants, tokens int) {
		t.Helper()
		if g.forget(); g.cache.Len() != grants || g.tokens.Len() != tokens {
			t.Errorf("%s: %d grants and %d tokens are kept", when, g.cache.Len(), g.tokens.Len())
		}
	}
	clock.add(59 * time.Second)
	want("before the first token ends", 2, 2)
	clock.add(2 * time.Second)
	want("after it", 1, 1)
	clock.add(relay.MaxGrantLife)
	want("after the other's grant", 0, 0)
}
