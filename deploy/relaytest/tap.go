package relaytest

import (
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// Tap listens on a subject as somebody who is not addressed does, and keeps what it sees.
type Tap struct {
	n    *Net
	Conn *nats.Conn

	mu   sync.Mutex
	all  []*nats.Msg
	grew chan struct{}
}

// Tap subscribes a user to a subject.
func (n *Net) Tap(u User, subject string, opts ...nats.Option) *Tap {
	n.tb.Helper()
	t := &Tap{n: n, Conn: n.Connect(u, opts...), grew: make(chan struct{})}
	_, err := t.Conn.Subscribe(subject, func(m *nats.Msg) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.all = append(t.all, m)
		close(t.grew)
		t.grew = make(chan struct{})
	})
	Must(n.tb, err)
	t.Flush()
	return t
}

// Flush returns when what was published before, on this connection or, on a broker that has passed it on, on another, has
// been handled by the server.
func (t *Tap) Flush() {
	t.n.tb.Helper()
	Must(t.n.tb, t.Conn.FlushTimeout(Patience))
}

// Send publishes as the tap's user, and waits until the server has it.
func (t *Tap) Send(m *nats.Msg) {
	t.n.tb.Helper()
	Must(t.n.tb, t.Conn.PublishMsg(m))
	t.Flush()
}

// All is what was seen so far.
func (t *Tap) All() []*nats.Msg {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]*nats.Msg(nil), t.all...)
}

// On is what was seen so far on subjects that hold the part.
func (t *Tap) On(part string) (out []*nats.Msg) {
	for _, m := range t.All() {
		if strings.Contains(m.Subject, part) {
			out = append(out, m)
		}
	}
	return out
}

// Wait waits for the n-th message on a subject that holds the part, counted from 1.
func (t *Tap) Wait(part string, n int) *nats.Msg {
	t.n.tb.Helper()
	for {
		t.mu.Lock()
		grew := t.grew
		t.mu.Unlock()
		if found := t.On(part); len(found) >= n {
			return found[n-1]
		}
		Recv(t.n.tb, grew, "message "+part)
	}
}

// Copy is a message as it would be captured: a copy to be altered and sent.
func Copy(m *nats.Msg) *nats.Msg {
	c := &nats.Msg{Subject: m.Subject, Reply: m.Reply, Data: append([]byte(nil), m.Data...), Header: nats.Header{}}
	for name, values := range m.Header {
		c.Header[name] = append([]string(nil), values...)
	}
	return c
}
