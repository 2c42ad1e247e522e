package publisher

import (
	"errors"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

func newTestDirectory(t *testing.T) (*directory, *testWorker, *testClock) {
	t.Helper()
	clock, identity := newTestClock(), relay.NewIdentity()
	d := newDirectory(trustOf(t, map[string]relay.Identity{"middleware": identity}), clock.now)
	return d, newTestWorker(t, identity, time.Hour, clock.now()), clock
}

func wantInstances(t *testing.T, d *directory, n int) []candidate {
	t.Helper()
	_, all, _ := d.candidates("middleware")
	if len(all) != n {
		t.Errorf("%d instances, want %d", len(all), n)
	}
	return all
}

func mustHear(t *testing.T, d *directory, payload []byte) {
	t.Helper()
	if err := d.heard("middleware", payload); err != nil {
		t.Errorf("not believed: %v", err)
	}
}

func TestDirectorySeqOnlyRises(t *testing.T) {
	d, w, clock := newTestDirectory(t)
	first, second := w.announces(clock.now()), w.announces(clock.now())
	mustHear(t, d, second)
	for name, old := range map[string][]byte{"older": first, "same": second} {
		if err := d.heard("middleware", old); !errors.Is(err, relay.CodeRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	mustHear(t, d, w.announces(clock.now()))
	wantInstances(t, d, 1)
}

// That the server denies hearing of workers is true until it allows it, or a worker is heard, or there is another connection; that it
// denies asking for them is told while somebody has asked lately.
func TestDirectoryThatMayNotHear(t *testing.T) {
	denial := errors.New("permissions violation")
	for name, c := range map[string]struct {
		hearing bool
		end     func(d *directory, w *testWorker, clock *testClock)
		want    relay.Code // after a minute
	}{
		"hearing": {true, nil, relay.CodeNATSDenied},
		"asking":  {false, nil, relay.CodeNoWorker},
		"allowed": {true, func(d *directory, _ *testWorker, _ *testClock) { d.allowed("middleware") }, relay.CodeNoWorker},
		"another": {true, func(d *directory, _ *testWorker, _ *testClock) { d.allowed("billing") }, relay.CodeNATSDenied},
		"over":    {true, func(d *directory, _ *testWorker, _ *testClock) { d.allowed("") }, relay.CodeNoWorker},
		"heard":   {true, func(d *directory, w *testWorker, clock *testClock) { mustHear(t, d, w.announces(clock.now())) }, relay.CodeNoWorker},
	} {
		d, w, clock := newTestDirectory(t)
		d.denied("middleware", c.hearing, denial)
		if err := d.none("middleware"); err.Code != relay.CodeNATSDenied || !errors.Is(err, denial) {
			t.Errorf("%s, at first: %v", name, err)
		}
		if c.end != nil {
			c.end(d, w, clock)
		}
		clock.add(time.Minute)
		if err := d.none("middleware"); err.Code != c.want {
			t.Errorf("%s, after a minute: %v, want %s", name, err, c.want)
		}
	}
}

// An instance is forgotten 20 s after its last announcement was received, and an old announcement does not bring it back
// for as long as that could still be accepted.
func TestDirectoryForgets(t *testing.T) {
	d, w, clock := newTestDirectory(t)
	old := w.announces(clock.now())
	mustHear(t, d, old)
	clock.add(relay.AnnouncementLife - time.Second)
	wantInstances(t, d, 1)
	clock.add(time.Second)
	wantInstances(t, d, 0)
	if err := d.none("middleware"); err.Code != relay.CodeNoWorker {
		t.Error(err)
	}
	for range 60 {
		if err := d.heard("middleware", old); err == nil {
			t.Fatal("an old announcement brought it back")
		}
		clock.add(2 * time.Second)
		other := newTestWorker(t, w.identity, time.Hour, clock.now())
		mustHear(t, d, other.announces(clock.now())) // lets the directory forget
	}
	if s := d.services["middleware"]; s.instances[w.said.Instance] != nil {
		t.Error("its seq is remembered for ever")
	}
	mustHear(t, d, w.announces(clock.now())) // it lives after all
}

func TestDirectoryDoesNotBelieve(t *testing.T) {
	d, w, clock := newTestDirectory(t)
	stranger := newTestWorker(t, relay.NewIdentity(), time.Hour, clock.now())
	for _, c := range []struct {
		name    string
		payload []byte
		code    relay.Code
	}{
		{"nothing", nil, relay.CodeRefused},
		{"garbage", []byte("a.b.c"), relay.CodeRefused},
		{"an untrusted key", stranger.announces(clock.now()), relay.CodeWorkerUntrusted},
		{"a clock ahead", w.announces(clock.now().Add(2 * time.Minute)), relay.CodeClockSkew},
		{"a clock behind", w.announces(clock.now().Add(-2 * time.Minute)), relay.CodeClockSkew},
	} {
		err := d.heard("middleware", c.payload)
		if !errors.Is(err, c.code) {
			t.Errorf("%s: %v, want %s", c.name, err, c.code)
		}
		want := c.code
		if want == relay.CodeRefused {
			want = relay.CodeNoWorker // anybody can send garbage: that is no diagnosis
		}
		if got := d.none("middleware").Code; got != want {
			t.Errorf("%s: the caller is told %s", c.name, got)
		}
	}
	wantInstances(t, d, 0)
	clock.add(relay.AnnouncementLife)
	if got := d.none("middleware").Code; got != relay.CodeNoWorker {
		t.Errorf("an old diagnosis is still given: %s", got)
	}
	mustHear(t, d, w.announces(clock.now()))
	if s := d.services["middleware"]; s.fault != nil {
		t.Error("a diagnosis outlives its cause")
	}
	// What is bound to one service announces nothing for another.
	if err := d.heard("billing", w.announces(clock.now())); err != nil && !errors.Is(err, relay.CodeWorkerUntrusted) {
		t.Error(err)
	}
	if known, all, _ := d.candidates("billing"); known || len(all) != 0 {
		t.Error("billing came into being")
	}
}

// Within the leeway a clock may be off, and the time of receipt decides.
func TestDirectoryClockWithinTheLeeway(t *testing.T) {
	for _, off := range []time.Duration{-25 * time.Second, 25 * time.Second} {
		d, w, clock := newTestDirectory(t)
		mustHear(t, d, w.announces(clock.now().Add(off)))
		clock.add(relay.AnnouncementLife - time.Second)
		wantInstances(t, d, 1)
		clock.add(time.Second)
		wantInstances(t, d, 0)
	}
}

func TestDirectoryClasses(t *testing.T) {
	d, w, clock := newTestDirectory(t)
	mustHear(t, d, w.announces(clock.now()))
	class := func() int { return wantInstances(t, d, 1)[0].class }
	if class() != 0 {
		t.Error("not ready")
	}
	w.said.State = relay.Draining
	mustHear(t, d, w.announces(clock.now()))
	if class() != 1 {
		t.Error("not draining")
	}
	d.avoid(wantInstances(t, d, 1)[0].instance)
	if class() != 2 {
		t.Error("not avoided")
	}
	mustHear(t, d, w.announces(clock.now()))
	if class() != 1 {
		t.Error("still avoided after it spoke")
	}
}

// No grant may be made to an expired key, so an instance with one is no candidate.
func TestDirectoryKeyExpires(t *testing.T) {
	d, w, clock := newTestDirectory(t)
	short := newTestWorker(t, w.identity, 10*time.Second, clock.now())
	mustHear(t, d, short.announces(clock.now()))
	wantInstances(t, d, 1)
	clock.add(10 * time.Second)
	wantInstances(t, d, 0)
}

// Trust that is added makes nobody wait; trust that is taken away ends at once, and neither makes an old announcement new.
func TestDirectoryKeyIsReplaced(t *testing.T) {
	d, w, clock := newTestDirectory(t)
	old, next := w.identity, relay.NewIdentity()
	bound := func(ids ...relay.Identity) *relay.Trust {
		f := relay.TrustFile{Type: relay.TrustTypeName, Services: map[string]relay.JWKS{}}
		for _, id := range ids {
			f.Services["middleware"] = relay.JWKS{Keys: append(f.Services["middleware"].Keys, id.Public())}
		}
		trust, err := f.Trust()
		if err != nil {
			t.Fatal(err)
		}
		return trust
	}
	first := w.announces(clock.now())
	mustHear(t, d, w.announces(clock.now()))
	d.setTrust(bound(old, next))
	wantInstances(t, d, 1)
	if err := d.heard("middleware", first); !errors.Is(err, relay.CodeRefused) {
		t.Errorf("an old announcement after trust was added: %v", err)
	}
	other := newTestWorker(t, old, time.Hour, clock.now())
	mustHear(t, d, other.announces(clock.now()))
	w.identity = next
	mustHear(t, d, w.announces(clock.now()))
	wantInstances(t, d, 2)
	d.setTrust(bound(next))
	if all := wantInstances(t, d, 1); len(all) == 1 && all[0].id != w.said.Instance {
		t.Error("the wrong one was forgotten")
	}
	if err := d.heard("middleware", other.announces(clock.now())); !errors.Is(err, relay.CodeWorkerUntrusted) {
		t.Errorf("a retired key announces: %v", err)
	}
	// Forgotten is not new: what the instance said before cannot be said again when its key comes back.
	other.said.Seq = 0
	replayed := other.announces(clock.now())
	d.setTrust(bound(old, next))
	if err := d.heard("middleware", replayed); !errors.Is(err, relay.CodeRefused) {
		t.Errorf("an old announcement of one that was forgotten: %v", err)
	}
	wantInstances(t, d, 1)
	d.setTrust(trustOf(t, map[string]relay.Identity{"billing": old}))
	if d.known("middleware") {
		t.Error("middleware is still known")
	}
	d.setTrust(bound(old, next))
	if err := d.heard("middleware", first); !errors.Is(err, relay.CodeRefused) {
		t.Errorf("an old announcement after the service was gone for a while: %v", err)
	}
}

func TestDirectoryTrustIsReplaced(t *testing.T) {
	d, w, clock := newTestDirectory(t)
	mustHear(t, d, w.announces(clock.now()))
	_, _, changed := d.candidates("middleware")
	other := relay.NewIdentity()
	d.setTrust(trustOf(t, map[string]relay.Identity{"middleware": other, "billing": other}))
	wantInstances(t, d, 0)
	if err := d.heard("middleware", w.announces(clock.now())); !errors.Is(err, relay.CodeWorkerUntrusted) {
		t.Error(err)
	}
	w.identity = other
	mustHear(t, d, w.announces(clock.now()))
	wantInstances(t, d, 1)
	select {
	case <-changed:
	default:
		t.Error("who was waiting did not hear of the news")
	}
	if !d.known("billing") {
		t.Error("billing is unknown")
	}
	d.setTrust(trustOf(t, map[string]relay.Identity{"billing": other}))
	if d.known("middleware") {
		t.Error("middleware is still known")
	}
}

// A flood of announcements is dropped before its signatures are checked, costs its own service alone, and is over at once.
func TestDirectoryUnderAFlood(t *testing.T) {
	clock, middleware, noisy := newTestClock(), relay.NewIdentity(), relay.NewIdentity()
	d := newDirectory(trustOf(t, map[string]relay.Identity{"middleware": middleware, "noisy": noisy}), clock.now)
	w := newTestWorker(t, middleware, time.Hour, clock.now())
	checked := 0
	for range 10 * announcementRate {
		if err := d.heard("noisy", []byte("garbage")); !errors.Is(err, errTooManyHeard) {
			checked++
		}
	}
	if checked != 2*announcementRate {
		t.Errorf("%d of %d were looked at", checked, 10*announcementRate)
	}
	mustHear(t, d, w.announces(clock.now()))
	wantInstances(t, d, 1)
	clock.add(time.Second)
	if err := d.heard("noisy", []byte("garbage")); errors.Is(err, errTooManyHeard) {
		t.Error("still dropped a second later")
	}
}

// Instances are bounded: those that are known go on being heard, and there is room again once some are forgotten.
func TestDirectoryIsBounded(t *testing.T) {
	d, w, clock := newTestDirectory(t)
	mustHear(t, d, w.announces(clock.now()))
	s := d.services["middleware"]
	for len(s.instances) < maxInstances {
		s.instances[relay.NewInstance()] = &instance{until: clock.now(), said: &w.said}
	}
	late := newTestWorker(t, w.identity, time.Hour, clock.now())
	if err := d.heard("middleware", late.announces(clock.now())); !errors.Is(err, errTooManyWorkers) {
		t.Errorf("one over the limit: %v", err)
	}
	mustHear(t, d, w.announces(clock.now()))
	clock.add(tombstone + time.Second)
	later := newTestWorker(t, w.identity, time.Hour, clock.now())
	mustHear(t, d, later.announces(clock.now()))
	wantInstances(t, d, 1)
}
