package demo

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/obo-relay/obo-relay/deploy/natsconf"
)

// Message is one NATS message as a subscriber sees it.
type Message struct {
	Number  int
	Time    time.Time
	Subject string
	Reply   string
	Header  nats.Header
	Data    []byte
}

// maxRecorded bounds the memory of a stage that stays up; the oldest messages go first.
const maxRecorded = 4096

// recorder subscribes to everything that the inspector may see, and keeps it.
type recorder struct {
	nc *nats.Conn

	mu       sync.Mutex
	messages []Message
	count    int
	changed  chan struct{} // closed and replaced at each message
}

// newRecorder connects with the inspector's NATS user, like the nats CLI.
func newRecorder(url, seed string) (*recorder, error) {
	user, err := nkeys.FromSeed([]byte(seed))
	if err != nil {
		return nil, fmt.Errorf("inspector: %w", err)
	}
	public, err := user.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("inspector: %w", err)
	}
	nc, err := nats.Connect(url, nats.Name("obo demo's inspector"), nats.Nkey(public, user.Sign), nats.CustomInboxPrefix(natsconf.InspectorInbox))
	if err != nil {
		return nil, fmt.Errorf("inspector: %w", err)
	}
	r := &recorder{nc: nc, changed: make(chan struct{})}
	if _, err := nc.Subscribe(">", r.receive); err != nil {
		nc.Close()
		return nil, fmt.Errorf("inspector: %w", err)
	}
	if err := nc.Flush(); err != nil { // from here on nothing is missed
		nc.Close()
		return nil, fmt.Errorf("inspector: %w", err)
	}
	return r, nil
}

func (r *recorder) receive(m *nats.Msg) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	r.messages = append(r.messages, Message{r.count, time.Now(), m.Subject, m.Reply, m.Header, m.Data})
	if len(r.messages) > maxRecorded {
		r.messages = slices.Delete(r.messages, 0, len(r.messages)-maxRecorded)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// since returns the messages after a number, and what is closed when there is another one.
func (r *recorder) since(number int) ([]Message, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first, _ := slices.BinarySearchFunc(r.messages, number+1, func(m Message, n int) int { return m.Number - n })
	return slices.Clone(r.messages[first:]), r.changed
}

// wait returns the first message that fits, recorded already or to come.
func (r *recorder) wait(ctx context.Context, fits func(Message) bool) (Message, error) {
	number := 0
	for {
		messages, changed := r.since(number)
		for _, m := range messages {
			if fits(m) {
				return m, nil
			}
			number = m.Number
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Message{}, ctx.Err()
		}
	}
}

func (r *recorder) close() { r.nc.Close() }
