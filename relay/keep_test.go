package relay

import (
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// A message over a max_payload that was lowered meanwhile is an error for which nats.go gives its connection up. There is another
// one then, which hears what the first heard, before it is told that it is up.
func TestKeepOutlivesAnUnknownError(t *testing.T) {
	opts := server.Options{Host: "127.0.0.1", Port: freePort(t), NoLog: true, NoSigs: true, MaxPayload: 1 << 20}
	s := natsServer(t, opts)
	got, up := make(chan *nats.Msg, 10), make(chan struct{}, 10)
	log := &logText{more: make(chan struct{}, 1)}
	k, err := Keep(ConnectConfig{URL: s.ClientURL(), Log: slog.New(slog.NewTextHandler(log, nil)), OnUp: func() { up <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.Subscribe("x", func(m *nats.Msg) { got <- m }, 100, 1<<20); err != nil {
		t.Fatal(err)
	}
	await(t, up)
	first := k.NATS()
	for range 3 {
		if err := first.Publish("x", nil); err != nil {
			t.Fatal(err)
		}
		await(t, got)
	}
	lower := opts
	lower.MaxPayload = 64 << 10
	if err := s.ReloadOptions(&lower); err != nil {
		t.Fatal(err)
	}
	if err := first.Publish("x", make([]byte, 100<<10)); err != nil {
		t.Fatal(err)
	}
	log.await(t, "the NATS server ended the connection")
	await(t, up)
	second := k.NATS()
	if second == first || !second.IsConnected() || second.MaxPayload() != 64<<10 {
		t.Fatalf("the same connection %v, connected %v, max_payload %d", second == first, second.IsConnected(), second.MaxPayload())
	}
	if err := second.Publish("x", []byte("again")); err != nil {
		t.Fatal(err)
	}
	if m := await(t, got); string(m.Data) != "again" {
		t.Errorf("%q came", m.Data)
	}
	if s := k.Stats(7); !s.Connected || s.Reconnects != 1 || s.MessagesIn != 4 || s.MessagesOut != 5 || s.SlowConsumers != 7 {
		t.Errorf("%+v: want what both connections have counted", s)
	}
}

// Closed while another connection is made, it does not keep that.
func TestKeepIsClosedForGood(t *testing.T) {
	s := natsServer(t, server.Options{})
	k, err := Keep(ConnectConfig{URL: s.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	if err := k.open(); err != nil || !k.NATS().IsClosed() {
		t.Errorf("%v, closed %v", err, k.NATS().IsClosed())
	}
}

// A subscription that the server denied is heard once its permissions are mended: the server does not take it up by itself, and
// keeps the connection.
func TestKeepAsksAgainForWhatWasDenied(t *testing.T) {
	for _, reconnects := range []bool{false, true} {
		t.Run("reconnects "+strconv.FormatBool(reconnects), func(t *testing.T) { testAsksAgain(t, reconnects) })
	}
}

// onlyHears are the options with one user, u with the password p, who may subscribe to nothing else.
func onlyHears(o server.Options, subjects ...string) *server.Options {
	o.Users = []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: subjects}}}}
	return &o
}

func testAsksAgain(t *testing.T, reconnects bool) {
	opts := server.Options{Host: "127.0.0.1", Port: freePort(t), NoLog: true, NoSigs: true}
	s := natsServer(t, *onlyHears(opts, "y"))
	got, denied, allowed := make(chan *nats.Msg, 10), make(chan error, 3), make(chan string, 10)
	k, err := Keep(ConnectConfig{
		URL:       "nats://u:p@127.0.0.1:" + strconv.Itoa(opts.Port),
		OnAllowed: func(subject string) { allowed <- subject },
		OnDenied: func(err error) {
			select {
			case denied <- err:
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	k.mu.Lock()
	k.deniedPause = time.Millisecond
	k.mu.Unlock()
	for _, subject := range []string{"x", "y"} {
		if err := k.Subscribe(subject, func(m *nats.Msg) { got <- m }, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	first := k.NATS()
	for range 3 { // it is told again, and is still true
		await(t, denied)
	}
	for later := !reconnects; !later; runtime.Gosched() { // it will not be asked for by itself
		k.mu.Lock()
		if later = k.subscriptions[0].again.Stop(); later {
			k.subscriptions[0].again.Reset(time.Hour)
		}
		k.mu.Unlock()
	}
	if err := s.ReloadOptions(onlyHears(opts, "x", "y")); err != nil {
		t.Fatal(err)
	}
	if reconnects {
		if err := first.ForceReconnect(); err != nil {
			t.Fatal(err)
		}
	}
	if subject := await(t, allowed); subject != "x" || k.NATS() != first {
		t.Fatalf("allowed is %q, by another connection %v", subject, k.NATS() != first)
	}
	if err := first.Publish("x", []byte("heard")); err != nil {
		t.Fatal(err)
	}
	if m := await(t, got); string(m.Data) != "heard" {
		t.Errorf("%q came", m.Data)
	}
	if err := first.Flush(); err != nil || first.NumSubscriptions() != 2 || len(got) != 0 {
		t.Errorf("%v, %d subscriptions, %d messages more", err, first.NumSubscriptions(), len(got))
	}
}

// As long as it is denied it is asked for less and less often; soon again after a reconnect.
func TestKeepAsksLessOftenForWhatStaysDenied(t *testing.T) {
	s := natsServer(t, *onlyHears(server.Options{}, "y"))
	log := &logText{more: make(chan struct{}, 1)}
	k, err := Keep(ConnectConfig{URL: strings.Replace(s.ClientURL(), "nats://", "nats://u:p@", 1), Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.Subscribe("x", func(*nats.Msg) {}, 0, 0); err != nil {
		t.Fatal(err)
	}
	log.await(t, "denies this user a subject")
	var pauses []time.Duration
	for range 6 {
		k.mu.Lock()
		x := k.subscriptions[0]
		if !x.again.Stop() {
			t.Error("nobody is about to ask for it")
		}
		pauses = append(pauses, x.pause)
		k.mu.Unlock()
		k.askAgain(x)
	}
	if want := []time.Duration{5e9, 10e9, 20e9, 40e9, 60e9, 60e9}; !slices.Equal(pauses, want) {
		t.Errorf("asked for after %v, want %v", pauses, want)
	}
	k.hurry() // as after a reconnect
	k.mu.Lock()
	defer k.mu.Unlock()
	if x := k.subscriptions[0]; x.pause != deniedPause || !x.again.Stop() {
		t.Errorf("after a reconnect it is asked for in %v", x.pause)
	}
}

// Whoever sees a connection may publish and hear the answer: it has its subscriptions.
func TestKeepShowsNoConnectionWithoutItsSubscriptions(t *testing.T) {
	s := natsServer(t, server.Options{})
	k, err := Keep(ConnectConfig{URL: s.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	const subscriptions = 5000
	for i := range subscriptions {
		if err := k.Subscribe("x."+strconv.Itoa(i), func(*nats.Msg) {}, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	first := k.NATS()
	seen := make(chan int, 1)
	go func() {
		for k.NATS() == first {
			runtime.Gosched()
		}
		seen <- k.NATS().NumSubscriptions()
	}()
	first.Close()
	if n := await(t, seen); n != subscriptions {
		t.Errorf("%d of %d subscriptions", n, subscriptions)
	}
}

// While another connection is made publishing fails as where the connection is away, which is not the end of a stream; after Close
// it is.
func TestKeepIsAwayBetweenConnections(t *testing.T) {
	s := natsServer(t, server.Options{})
	k, err := Keep(ConnectConfig{URL: s.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	k.NATS().Close()
	if err := k.PublishMsg(nats.NewMsg("x")); err == nil || !transient(err) {
		t.Errorf("between connections: %v", err)
	}
	k.Close()
	if err := k.PublishMsg(nats.NewMsg("x")); err == nil || transient(err) {
		t.Errorf("closed: %v", err)
	}
}
