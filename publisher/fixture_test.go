package publisher

import (
	"encoding/base64"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// testClock is a clock that a test moves.
type testClock struct {
	mu sync.Mutex
	at time.Time
}

func newTestClock() *testClock { return &testClock{at: time.Now()} }

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *testClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// testWorker makes announcements as a worker process does.
type testWorker struct {
	t        *testing.T
	identity relay.Identity
	said     relay.Announcement
	key      *relay.InstanceKey
}

func newTestWorker(t *testing.T, identity relay.Identity, keyLife time.Duration, now time.Time) *testWorker {
	t.Helper()
	key, err := relay.NewInstanceKey(now.Add(keyLife))
	if err != nil {
		t.Fatal(err)
	}
	return &testWorker{t, identity, relay.Announcement{
		Service: "middleware", Instance: relay.NewInstance(), State: relay.Ready, Capacity: 10, Version: "1", Server: "N",
	}, key}
}

// announces is the next announcement.
func (w *testWorker) announces(now time.Time) []byte {
	w.t.Helper()
	w.said.Seq++
	jws, err := w.said.Sign(w.identity, w.key, now)
	if err != nil {
		w.t.Fatal(err)
	}
	return []byte(jws)
}

func trustOf(t testing.TB, services map[string]relay.Identity) *relay.Trust {
	t.Helper()
	f := relay.TrustFile{Type: relay.TrustTypeName, Services: map[string]relay.JWKS{}}
	for name, id := range services {
		f.Services[name] = relay.JWKS{Keys: []relay.JWK{id.Public()}}
	}
	trust, err := f.Trust()
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

func testJWT(name string, expiry time.Time) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none"}`)) + "." + encode(fmt.Appendf(nil, `{"sub":%q,"exp":%d}`, name, expiry.Unix())) + "." + encode([]byte("sig"))
}

func testToken(t *testing.T, value string) relay.Token {
	t.Helper()
	token, err := relay.NewToken(value)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
