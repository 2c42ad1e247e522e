package worker

import (
	"bytes"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// sealer is an app that makes messages for an admission under test.
type sealer struct {
	t         testing.TB
	admission *admission
	keys      *keyring
	quota     *quota
	app       relay.Identity
	service   relay.Identity
	clock     *steppedClock
	subjects  relay.Subjects
	instance  string
	inbox     relay.ID
	published int // frames of exchanges that finishedExchange made
}

func newSealer(t testing.TB, change func(*Config)) *sealer {
	t.Helper()
	s := &sealer{t: t, app: relay.NewIdentity(), service: relay.NewIdentity(), clock: newSteppedClock(), instance: relay.NewInstance(), inbox: relay.NewID()}
	trust, err := relay.TrustFile{
		Type:     relay.TrustTypeName,
		Apps:     map[string]relay.JWKS{"ui": {Keys: []relay.JWK{s.app.Public()}}},
		Services: map[string]relay.JWKS{"middleware": {Keys: []relay.JWK{s.service.Public()}}},
	}.Trust()
	must(t, err)
	c := Config{Service: "middleware", Trust: trust, Now: s.clock.now}
	if change != nil {
		change(&c)
	}
	c = c.withDefaults()
	s.keys, err = newKeyring(c.KeyLife, c.Now)
	must(t, err)
	s.admission, err = newAdmission(c, s.keys)
	must(t, err)
	s.quota = newQuotas(1, c.GrantRate, trust).of("ui")
	s.subjects, err = relay.NewSubjects("")
	must(t, err)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// grant seals Alice's token to the key that is announced now.
func (s *sealer) grant() (*relay.Grant, string) {
	s.t.Helper()
	return s.grantOf("alice")
}

func (s *sealer) grantOf(name string) (*relay.Grant, string) {
	s.t.Helper()
	now := s.clock.now()
	jws, err := relay.Announcement{Service: "middleware", Instance: s.instance, Seq: 1, State: relay.Ready, Capacity: 1, Version: "1", Server: "N"}.
		Sign(s.service, s.keys.announced(), now)
	must(s.t, err)
	said, err := s.admission.trust.Load().VerifyAnnouncement("middleware", []byte(jws), now)
	must(s.t, err)
	grant, compact, err := relay.SealGrant(s.app, "ui", said, testToken(s.t, testJWT(name, now.Add(time.Hour))), now)
	must(s.t, err)
	return grant, compact
}

// message is a request under the grant, with changes to its head.
func (s *sealer) message(grant *relay.Grant, compact string, change func(*relay.RequestHead)) *nats.Msg {
	s.t.Helper()
	id := relay.NewID()
	head := &relay.RequestHead{
		Method: "POST", Path: "/do", Header: map[string][]string{}, IssuedAt: s.clock.now().UnixMilli(), TimeoutMS: 1000,
		Subject: s.subjects.Request("middleware", s.instance, "ui"), Reply: s.subjects.Reply("ui", s.inbox, id),
	}
	m := &nats.Msg{Subject: head.Subject, Reply: head.Reply}
	if change != nil {
		change(head)
	}
	m.Header = relay.HintsFull.Request(id, head)
	stream := relay.NewStream(s.t.Context(), relay.StreamConfig{
		Role: relay.RoleApp, ID: id, Grant: grant, Limit: relay.MaxFrame, Budget: relay.NewBudget(1), Now: time.Now,
		Publish: func(b []byte, _ relay.FrameType, _ int) error { m.Data = append([]byte(nil), b...); return nil },
	})
	defer stream.Close()
	stream.SetGrant([]byte(compact))
	encoded, err := relay.EncodeHead(head)
	must(s.t, err)
	must(s.t, stream.SendHead(encoded, []byte("body"), true, 0))
	return m
}

// begin admits a copy, since frames are opened in place.
func (s *sealer) begin(m *nats.Msg) (*admitted, *relay.Error) {
	return s.admission.admit(s.quota, &nats.Msg{Subject: m.Subject, Reply: m.Reply, Header: m.Header, Data: append([]byte(nil), m.Data...)},
		s.subjects.Parse(m.Subject), s.subjects.Parse(m.Reply))
}

// admit is begin without going on.
func (s *sealer) admit(m *nats.Msg) (*admitted, *relay.Error) {
	a, err := s.begin(m)
	if err == nil {
		s.admission.turns.release(a.whose)
	}
	return a, err
}

func TestAdmit(t *testing.T) {
	s := newSealer(t, nil)
	grant, compact := s.grant()
	a, err := s.admit(s.message(grant, compact, nil))
	if err != nil || a.fault != nil || string(a.body) != "body" || !a.whole || a.head.Path != "/do" || a.grant.Token.Reveal() != grant.Token.Reveal() {
		t.Fatalf("%+v %v", a, err)
	}
}

// An id is burned by the first message that passes, and by nothing before it: what is refused leaves no trace, so that it
// cannot be used to burn somebody's request.
func TestOnlyWhatPassesIsBurned(t *testing.T) {
	s := newSealer(t, nil)
	grant, compact := s.grant()
	for name, change := range map[string]func(*nats.Msg){
		"empty":         func(m *nats.Msg) { m.Data = nil },
		"length":        func(m *nats.Msg) { m.Data[0] ^= 0x10 },
		"grant":         func(m *nats.Msg) { m.Data[500] ^= 1 },
		"frame":         func(m *nats.Msg) { m.Data[len(m.Data)-1] ^= 1 },
		"subject":       func(m *nats.Msg) { m.Subject = s.subjects.Request("middleware", relay.NewInstance(), "ui") },
		"other app":     func(m *nats.Msg) { m.Subject = s.subjects.Request("middleware", s.instance, "batch") },
		"reply inbox":   func(m *nats.Msg) { m.Reply = s.subjects.Reply("ui", relay.NewID(), s.subjects.Parse(m.Reply).ID) },
		"reply id":      func(m *nats.Msg) { m.Reply = s.subjects.Reply("ui", s.inbox, relay.NewID()) },
		"hint":          func(m *nats.Msg) { m.Header.Set("Obo-Method", "GET") },
		"hint's case":   func(m *nats.Msg) { m.Header["OBO-PATH"] = []string{"/other"} },
		"short":         func(m *nats.Msg) { m.Data = m.Data[:100] },
		"without frame": func(m *nats.Msg) { m.Data = m.Data[:2+len(compact)] },
	} {
		genuine := s.message(grant, compact, nil)
		forged := &nats.Msg{Subject: genuine.Subject, Reply: genuine.Reply, Header: nats.Header{}, Data: append([]byte(nil), genuine.Data...)}
		for k, v := range genuine.Header {
			forged.Header[k] = v
		}
		change(forged)
		before := s.admission.replay.len()
		if _, err := s.admit(forged); err == nil || err.Code != relay.CodeRefused || errors.Is(err, errRepeated) {
			t.Errorf("%s: %v", name, err)
		}
		if s.admission.replay.len() != before {
			t.Errorf("%s: burned something", name)
		}
		if _, err := s.admit(genuine); err != nil {
			t.Errorf("%s: the genuine message is refused after it: %v", name, err)
		}
		if _, err := s.admit(genuine); !errors.Is(err, errRepeated) {
			t.Errorf("%s: the genuine message is admitted twice: %v", name, err)
		}
	}
}

// A head that is authentic but breaks a rule is burned, since its refusal is sealed.
func TestRulesAreCheckedAfterTheBurn(t *testing.T) {
	s := newSealer(t, nil)
	grant, compact := s.grant()
	for path, code := range map[string]relay.Code{"/a/../b": relay.CodePathNotCanonical, "//x": relay.CodePathNotCanonical, "x": relay.CodePathNotCanonical} {
		before := s.admission.replay.len()
		a, err := s.admit(s.message(grant, compact, func(h *relay.RequestHead) { h.Path = path }))
		if err != nil || a.fault == nil || a.fault.Code != code || s.admission.replay.len() != before+1 {
			t.Errorf("%s: %+v %v", path, a, err)
		}
	}
}

// The window is judged before the id, and skew burns nothing.
func TestSkewBurnsNothing(t *testing.T) {
	s := newSealer(t, nil)
	grant, compact := s.grant()
	for _, off := range []time.Duration{-31 * time.Second, 31 * time.Second} {
		_, err := s.admit(s.message(grant, compact, func(h *relay.RequestHead) { h.IssuedAt += off.Milliseconds() }))
		if err == nil || err.Code != relay.CodeClockSkew || s.admission.replay.len() != 0 {
			t.Errorf("%v: %v", off, err)
		}
	}
}

// Of many copies that come at once one is admitted.
func TestOneOfManyCopiesIsAdmitted(t *testing.T) {
	s := newSealer(t, nil)
	grant, compact := s.grant()
	m := s.message(grant, compact, nil)
	var mu sync.Mutex
	passed := 0
	var wg sync.WaitGroup
	for range 8 * runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			_, err := s.admit(m)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				passed++
			case !errors.Is(err, errRepeated):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if passed != 1 {
		t.Errorf("%d were admitted", passed)
	}
}

// A kept grant is checked again at every use: expiry, trust, instance key; and a bad one is not kept.
func TestKeptGrants(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*sealer)
		passes bool
	}{
		"nothing":          {func(*sealer) {}, true},
		"within its life":  {func(s *sealer) { s.clock.pass(relay.MaxGrantLife + relay.Leeway - 2*time.Second) }, true},
		"past its life":    {func(s *sealer) { s.clock.pass(relay.MaxGrantLife + relay.Leeway + 2*time.Second) }, false},
		"same trust again": {func(s *sealer) { s.admission.setTrust(s.admission.trust.Load()) }, true},
		"the key is replaced": {func(s *sealer) {
			s.clock.pass(31 * time.Minute)
			if rotated, err := s.keys.rotate(); !rotated || err != nil {
				s.t.Error("not rotated", err)
			}
			s.clock.pass(-31 * time.Minute)
		}, true},
		"the key is destroyed": {func(s *sealer) { must(s.t, s.keys.reset()) }, false},
		"trust is taken away": {func(s *sealer) {
			trust, err := relay.TrustFile{Type: relay.TrustTypeName, Apps: map[string]relay.JWKS{"ui": {Keys: []relay.JWK{relay.NewIdentity().Public()}}}}.Trust()
			must(s.t, err)
			s.admission.setTrust(trust)
		}, false},
	} {
		s := newSealer(t, nil)
		grant, compact := s.grant()
		if _, err := s.admit(s.message(grant, compact, nil)); err != nil {
			t.Fatal(err)
		}
		if s.admission.grants.Len() != 1 {
			t.Error("the grant is not kept")
		}
		c.change(s)
		_, err := s.admit(s.message(grant, compact, nil))
		if (err == nil) != c.passes {
			t.Errorf("%s: %v", name, err)
		}
		if !c.passes && s.admission.grants.Len() != 0 {
			t.Errorf("%s: the grant is still kept", name)
		}
	}
}

// With another trust file nothing stays that was opened under the one before, not even unused.
func TestTrustEmptiesTheCache(t *testing.T) {
	s := newSealer(t, nil)
	grant, compact := s.grant()
	if _, err := s.admit(s.message(grant, compact, nil)); err != nil {
		t.Fatal(err)
	}
	s.admission.setTrust(s.admission.trust.Load())
	if n := s.admission.grants.Len(); n != 0 {
		t.Errorf("%d grants are kept", n)
	}
}

// The log names each key of an app once, when it is first used.
func TestKeysInUseAreLogged(t *testing.T) {
	var log bytes.Buffer
	s := newSealer(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	for range 2 {
		grant, compact := s.grant()
		if _, err := s.admit(s.message(grant, compact, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "an app's key is in use"); n != 1 || !strings.Contains(log.String(), s.app.Kid()) {
		t.Errorf("%s", log.String())
	}
}

// reference turns a message into one that only refers to its grant.
func reference(m *nats.Msg) *nats.Msg {
	sealed, hash, frame, _ := relay.SplitRequest(m.Data)
	if sealed == nil {
		return m
	}
	return &nats.Msg{Subject: m.Subject, Reply: m.Reply, Header: m.Header, Data: slices.Concat([]byte{0, 0}, hash[:], frame)}
}

// A request may refer to a grant that is kept, and to no other. What is kept is found by all bytes of the grant.
func TestGrantByReference(t *testing.T) {
	s := newSealer(t, nil)
	grant, compact := s.grant()
	if _, err := s.admit(reference(s.message(grant, compact, nil))); !errors.Is(err, relay.CodeGrantUnknown) {
		t.Errorf("a grant that nobody sent: %v", err)
	}
	m := s.message(grant, compact, nil)
	if _, err := s.admit(m); err != nil {
		t.Fatal(err)
	}
	if a, err := s.admit(reference(s.message(grant, compact, nil))); err != nil || a.grant.Token.Reveal() != grant.Token.Reveal() {
		t.Errorf("by reference: %v", err)
	}
	for name, change := range map[string]func(*nats.Msg){
		"the same request again, by reference": func(*nats.Msg) {},
		"another hash":                         func(m *nats.Msg) { m.Data[2] ^= 1 },
		"half a hash":                          func(m *nats.Msg) { m.Data = m.Data[:18] },
		"no frame":                             func(m *nats.Msg) { m.Data = m.Data[:34] },
		"another app's subject": func(m *nats.Msg) {
			m.Subject, m.Reply = s.subjects.Request("middleware", s.instance, "batch"), s.subjects.Reply("batch", s.inbox, s.subjects.Parse(m.Reply).ID)
		},
	} {
		m := reference(m)
		change(m)
		if _, err := s.admit(m); err == nil {
			t.Errorf("%s: admitted", name)
		}
	}
	other, otherCompact := s.grant()
	mixed := s.message(other, otherCompact, nil)
	copy(mixed.Data[2:], compact)
	if _, err := s.admit(mixed); err == nil {
		t.Error("a frame of one grant passed with another")
	}
	forged := s.message(grant, compact, nil)
	forged.Data[2+200] ^= 1
	if _, err := s.admit(forged); err == nil {
		t.Error("an altered grant passed for the one that is kept")
	}
	must(t, s.keys.reset())
	if _, err := s.admit(reference(s.message(grant, compact, nil))); err == nil || errors.Is(err, relay.CodeGrantUnknown) {
		t.Errorf("a kept grant of a key that is gone: %v", err)
	}
}

// After the wall clock was stepped nothing is admitted until the keys are replaced, and then nothing that was sealed
// before: the replay cache may have forgotten what is inside the window again.
func TestClockStepsBack(t *testing.T) {
	s := newSealer(t, nil)
	grant, compact := s.grant()
	captured := s.message(grant, compact, nil)
	if _, err := s.admit(captured); err != nil {
		t.Fatal(err)
	}
	s.clock.pass(2 * time.Minute)
	if _, err := s.admit(s.message(grant, compact, nil)); err != nil { // lets the cache forget
		t.Fatal(err)
	}
	if step, err := s.admission.clockStep(); step != 0 || err != nil {
		t.Fatalf("a step of %v %v", step, err)
	}
	s.clock.step(-2 * time.Minute)
	if _, err := s.admit(captured); err == nil || err.Code != relay.CodeClockSkew || !strings.Contains(err.Detail, "stepped") {
		t.Errorf("between the step and the new keys: %v", err)
	}
	old := s.keys.announced().Kid()
	if step, err := s.admission.clockStep(); err != nil || step > -time.Minute {
		t.Errorf("a step of %v, %v", step, err)
	}
	if s.keys.get(old) != nil || s.admission.grants.Len() != 0 {
		t.Error("the old key or a grant is still there")
	}
	if _, err := s.admit(captured); err == nil {
		t.Error("the captured request is admitted again")
	}
	grant, compact = s.grant()
	if _, err := s.admit(s.message(grant, compact, nil)); err != nil {
		t.Errorf("with the new key: %v", err)
	}
	if step, _ := s.admission.clockStep(); step != 0 {
		t.Errorf("another step of %v", step)
	}
}

// A grant that has run out is dropped without being asked for: it holds a token.
func TestGrantsAreForgottenWhenTheyRunOut(t *testing.T) {
	s := newSealer(t, nil)
	grant, compact := s.grant()
	if _, err := s.admit(s.message(grant, compact, nil)); err != nil {
		t.Fatal(err)
	}
	s.clock.pass(relay.MaxGrantLife + relay.Leeway - 2*time.Second)
	if s.admission.forget(); s.admission.grants.Len() != 1 {
		t.Error("forgotten while it could be used")
	}
	s.clock.pass(4 * time.Second)
	if s.admission.forget(); s.admission.grants.Len() != 0 {
		t.Error("kept after it has run out")
	}
}

// The window is judged when the id is burned, however long the message has waited for its turn: by then the id of an earlier
// copy may be forgotten.
func TestCopyThatWaitedForItsTurnIsNotNew(t *testing.T) {
	s := newSealer(t, nil)
	grant, compact := s.grant()
	m := s.message(grant, compact, nil)
	if _, err := s.admit(m); err != nil {
		t.Fatal(err)
	}
	s.clock.pass(29 * time.Second)
	release, got := s.waiting(grant, m)
	s.clock.pass(40 * time.Second)
	fresh, sealed := s.grantOf("bob")
	if _, err := s.admit(s.message(fresh, sealed, nil)); err != nil {
		t.Fatal(err)
	}
	release()
	if err := <-got; err == nil {
		t.Error("a copy is admitted again")
	}
	// Nor is the first of all requests admitted once its window is over, though there is no id that anybody has forgotten.
	s = newSealer(t, nil)
	grant, compact = s.grant()
	release, got = s.waiting(grant, s.message(grant, compact, nil))
	s.clock.pass(31 * time.Second)
	release()
	if err := <-got; err == nil || err.Code != relay.CodeClockSkew {
		t.Errorf("a request that waited for 31 s: %v", err)
	}
}

// waiting begins to admit a message whose person has all the turns that one may have, until one of them is released.
func (s *sealer) waiting(grant *relay.Grant, m *nats.Msg) (release func(), got <-chan *relay.Error) {
	s.t.Helper()
	whose, turns := personOf("ui", grant.Token), s.admission.turns
	for range turns.perPerson {
		must(s.t, turns.acquire(s.t.Context(), whose))
	}
	out := make(chan *relay.Error, 1)
	go func() {
		_, err := s.begin(m)
		out <- err
	}()
	for turns.waiting() == 0 {
		runtime.Gosched()
	}
	return func() { turns.release(whose) }, out
}

// Nothing is admitted that was opened while a key was alive that is gone when its turn comes: after a step of the clock ids
// that were forgotten would be inside the window again.
func TestGrantThatWentWhileItsRequestWaited(t *testing.T) {
	for name, change := range map[string]func(*sealer){
		"the clock was stepped": func(s *sealer) {
			s.clock.step(-20 * time.Second)
			if step, err := s.admission.clockStep(); step == 0 || err != nil {
				t.Errorf("%v %v", step, err)
			}
		},
		"the app's key is no longer trusted": func(s *sealer) {
			trust, err := relay.TrustFile{Type: relay.TrustTypeName, Apps: map[string]relay.JWKS{"ui": {Keys: []relay.JWK{relay.NewIdentity().Public()}}}}.Trust()
			must(t, err)
			s.admission.setTrust(trust)
		},
	} {
		s := newSealer(t, nil)
		grant, compact := s.grant()
		release, got := s.waiting(grant, s.message(grant, compact, nil))
		change(s)
		release()
		if err := <-got; err == nil || err.Code != relay.CodeRefused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
