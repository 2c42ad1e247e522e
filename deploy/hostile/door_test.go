package hostile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/deploy/hostile"
)

const patience = 20 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stage is a real server and two clients, each behind a door.
type stage struct {
	t                *testing.T
	before, after    *hostile.Door
	sender, receiver *nats.Conn
	got              *nats.Subscription // of the receiver, on >
}

func newStage(t *testing.T) *stage {
	t.Helper()
	t.Parallel()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true})
	must(t, err)
	go srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(patience) {
		t.Fatal("the server does not start")
	}
	s := &stage{t: t, before: hostile.Open(t, srv.ClientURL()).Record(), after: hostile.Open(t, srv.ClientURL()).Record()}
	s.sender, s.receiver = s.connect(s.before), s.connect(s.after)
	s.got, err = s.receiver.SubscribeSync("t.>")
	must(t, err)
	must(t, s.receiver.FlushTimeout(patience))
	return s
}

func (s *stage) connect(d *hostile.Door) *nats.Conn {
	s.t.Helper()
	nc, err := nats.Connect(d.URL, nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	must(s.t, err)
	s.t.Cleanup(nc.Close)
	return nc
}

// say publishes texts one after another.
func (s *stage) say(texts ...string) {
	s.t.Helper()
	for _, text := range texts {
		must(s.t, s.sender.PublishMsg(&nats.Msg{Subject: "t.x", Reply: "r", Header: nats.Header{"H": {text}}, Data: []byte(text)}))
	}
	must(s.t, s.sender.FlushTimeout(patience))
}

// hears wants exactly these texts to arrive.
func (s *stage) hears(texts ...string) {
	s.t.Helper()
	must(s.t, s.receiver.FlushTimeout(patience))
	for _, want := range texts {
		m, err := s.got.NextMsg(patience)
		if err != nil {
			s.t.Fatalf("waiting for %q: %v", want, err)
		}
		if string(m.Data) != want {
			s.t.Errorf("got %q, want %q", m.Data, want)
		}
	}
	if n, _, _ := s.got.Pending(); n != 0 {
		s.t.Errorf("%d messages more", n)
	}
}

func TestScriptedMoves(t *testing.T) {
	for _, c := range []struct {
		name string
		move func() hostile.Move // new for each door: some remember
		want string
	}{
		{"pass", func() hostile.Move { return hostile.Pass }, "a b c d"},
		{"drop", func() hostile.Move {
			return hostile.When(func(m *hostile.Message) bool { return string(m.Data) == "b" }, hostile.Drop)
		}, "a c d"},
		{"repeat", func() hostile.Move { return hostile.Repeat(2) }, "a a b b c c d d"},
		{"alter", func() hostile.Move { return hostile.Alter(func(m *hostile.Message) { m.Data = append(m.Data, '!') }) }, "a! b! c! d!"},
		{"reorder", hostile.Reorder, "b a d c"},
		{"both", func() hostile.Move { return hostile.Both(hostile.Reorder(), hostile.Repeat(2)) }, "b b a a d d c c"},
	} {
		for _, where := range []string{"before the server", "after it"} {
			t.Run(c.name+" "+where, func(t *testing.T) {
				s := newStage(t)
				door := s.before
				if where == "after it" {
					door = s.after
				}
				door.Script(c.move())
				s.say("a", "b", "c", "d")
				s.hears(strings.Fields(c.want)...)
				if n := len(door.Passed(hostile.Up)) + len(door.Passed(hostile.Down)); n != 4 {
					t.Errorf("%d messages recorded, want what came: 4", n)
				}
			})
		}
	}
}

func TestTrap(t *testing.T) {
	s := newStage(t)
	trap := new(hostile.Trap)
	s.before.Script(trap.Move)
	s.say("a", "b")
	held := trap.Wait(t, 2)
	s.hears()
	s.before.Send(held, held, trap.Held()[0].Altered(func(m *hostile.Message) { m.Data = []byte("A") }))
	s.hears("b", "b", "A")
	if m := held; m.Subject != "t.x" || m.Reply != "r" || m.Header.Get("H") != "b" || m.Way != hostile.Up {
		t.Errorf("%+v", m)
	}
}

// Whoever runs the broker says what it likes, to each end alone.
func TestSaid(t *testing.T) {
	s := newStage(t)
	s.after.Send(hostile.Said(hostile.Down, &nats.Msg{Subject: "t.forged", Data: []byte("down")}))
	s.hears("down")
	s.before.Send(hostile.Said(hostile.Up, &nats.Msg{Subject: "t.forged", Data: []byte("up"), Header: nats.Header{"X": {"1"}}}))
	s.hears("up")
	if n := len(s.after.Passed(hostile.Down)); n != 1 {
		t.Errorf("%d messages came from the server", n)
	}
	inbox, err := s.sender.SubscribeSync("in.*")
	must(t, err)
	must(t, s.sender.FlushTimeout(patience))
	s.before.Send(hostile.NoResponders("in.1"))
	if _, err := inbox.NextMsg(patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("forged 503: %v", err)
	}
	// The answer to a request comes first from the broker, and on a way that a move chose.
	s.before.Script(func(m *hostile.Message) []*hostile.Message {
		if m.Way == hostile.Up && m.Reply != "" {
			return []*hostile.Message{hostile.Said(hostile.Down, &nats.Msg{Subject: m.Reply, Data: []byte("first")}), m}
		}
		return []*hostile.Message{m}
	})
	answer, err := s.sender.Request("t.ask", []byte("question"), patience)
	if err != nil || string(answer.Data) != "first" {
		t.Errorf("%v %v", answer, err)
	}
	s.hears("question")
}

func TestSay(t *testing.T) {
	s := newStage(t)
	s.before.Say(`INFO {"server_id":"forged","max_payload":7}`)
	must(t, s.sender.FlushTimeout(patience))
	if got := s.sender.MaxPayload(); got != 7 {
		t.Errorf("max_payload %d", got)
	}
	s.before.Say(`-ERR 'Permissions Violation for Publish to "t.x"'`)
	must(t, s.sender.FlushTimeout(patience))
	if !errors.Is(s.sender.LastError(), nats.ErrPermissionViolation) {
		t.Errorf("%v", s.sender.LastError())
	}
}

func TestConnections(t *testing.T) {
	s := newStage(t)
	again := make(chan struct{}, 10)
	s.sender.SetReconnectHandler(func(*nats.Conn) { again <- struct{}{} })
	s.before.Cut()
	<-again
	if n := s.before.Made(); n != 2 {
		t.Errorf("%d connections", n)
	}
	s.before.Kill()
	if _, err := nats.Connect(s.before.URL); err == nil {
		t.Error("connected through a door that is shut")
	}
	s.before.Revive()
	<-again
	s.say("a")
	s.hears("a")
}

// Large messages and many at once arrive as they were sent.
func TestVolume(t *testing.T) {
	s := newStage(t)
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprint(i, strings.Repeat("\r\nPUB t.x 3\r\n", i*50)))
	}
	s.say(want...)
	s.hears(want...)
	if spoken := s.before.Spoken(); len(spoken) < 100*100*300 || !strings.Contains(string(spoken), "CONNECT {") {
		t.Errorf("%d bytes recorded", len(spoken))
	}
}
