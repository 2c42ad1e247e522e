package hostile

import (
	"slices"

	"github.com/nats-io/nats.go"
)

// Way is the direction in which a message passes a door.
type Way int

// The directions.
const (
	Up   Way = iota // from the end to the server
	Down            // from the server to the end
)

// Message is a message on its way through a door.
type Message struct {
	*nats.Msg
	Way Way
	SID string // Down: the end's subscription. Empty: whichever fits the subject

	rawHeader []byte // as it came, with asRead what that says
	asRead    nats.Header
}

// Copy is a copy to alter or keep.
func (m *Message) Copy() *Message {
	c := *m
	c.Msg = &nats.Msg{Subject: m.Subject, Reply: m.Reply, Header: cloneHeader(m.Header), Data: slices.Clone(m.Data)}
	return &c
}

func cloneHeader(h nats.Header) nats.Header {
	if h == nil {
		return nil
	}
	c := nats.Header{}
	for name, values := range h {
		c[name] = slices.Clone(values)
	}
	return c
}

// Altered is a copy with a change.
func (m *Message) Altered(change func(*Message)) *Message {
	c := m.Copy()
	change(c)
	return c
}

// Said is a message that nobody has said: to go Up as if the end had, or Down as if the server had.
func Said(way Way, m *nats.Msg) *Message { return (&Message{Msg: m, Way: way}).Copy() }

// NoResponders is the 503 by which a server says that nobody received a request.
func NoResponders(reply string) *Message {
	return Said(Down, &nats.Msg{Subject: reply, Header: nats.Header{"Status": {"503"}}})
}
