package hostile

import (
	"bufio"
	"fmt"
	"net"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// link is one connection of an end, and ours to the server for it.
type link struct {
	door        *Door
	end, server *side

	mu   sync.Mutex
	subs map[string]string // sid → subject
}

// side is one of a link's two connections.
type side struct {
	conn net.Conn
	mu   sync.Mutex // orders writes
}

func newLink(d *Door, end, server net.Conn) *link {
	return &link{door: d, end: &side{conn: end}, server: &side{conn: server}, subs: map[string]string{}}
}

func (l *link) close() {
	_ = l.end.conn.Close()
	_ = l.server.conn.Close()
}

// run passes on what one side says until it says no more.
func (l *link) run(from *side) error {
	to := l.server
	if from == l.server {
		to = l.end
	}
	r := bufio.NewReaderSize(from.conn, 32<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		if from == l.end {
			l.door.spoke(f)
			l.note(f)
		}
		if f.message == nil {
			err = to.write(f)
		} else {
			for _, m := range l.door.decide(f.message) {
				if err = l.pass(m); err != nil {
					break
				}
			}
		}
		if err != nil {
			return err
		}
	}
}

// note keeps in mind what the end subscribes to.
func (l *link) note(f frame) {
	op, args := f.op()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case op == "SUB" && len(args) >= 2:
		l.subs[args[len(args)-1]] = args[0]
	case op == "UNSUB" && len(args) == 1: // with a number it goes on for a while
		delete(l.subs, args[0])
	}
}

// pass sends a message its way.
func (l *link) pass(m *Message) error {
	if m.Way == Up {
		if m.SID != "" { // it came from the server
			m = m.Altered(func(c *Message) { c.SID = "" })
		}
		return l.server.write(frame{message: m})
	}
	if m.SID == "" {
		sid, ok := l.sid(m.Subject)
		if !ok {
			return fmt.Errorf("hostile: the end does not listen to %s", m.Subject)
		}
		m = m.Altered(func(c *Message) { c.SID = sid })
	}
	return l.end.write(frame{message: m})
}

func (l *link) sid(subject string) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for sid, pattern := range l.subs {
		if server.SubjectMatchesFilter(subject, pattern) {
			return sid, true
		}
	}
	return "", false
}

func (s *side) write(f frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.conn.Write(f.append(nil))
	return err
}
