package relay

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Conn is a connection to NATS that lasts until it is closed, and its subscriptions with it. That of nats.go does not: it is
// over for good when the server says an error that nats.go does not know, as it does of a message over a max_payload that was
// lowered. Then another takes its place here.
type Conn struct {
	cfg     ConnectConfig
	current atomic.Pointer[nats.Conn]

	mu            sync.Mutex
	subscriptions []subscription
	over          bool
}

type subscription struct {
	subject         string
	heard           nats.MsgHandler
	messages, bytes int
}

// replacePause is how long nothing takes the place of a connection that is over: the next one may be so, too.
const replacePause = time.Second

// Keep connects as Connect does, and stays connected until Close.
func Keep(c ConnectConfig) (*Conn, error) {
	k := &Conn{cfg: c.withDefaults()}
	if err := k.open(); err != nil {
		return nil, err
	}
	return k, nil
}

// NATS is the connection of this moment. Use it at once, and once for what belongs together.
func (k *Conn) NATS() *nats.Conn { return k.current.Load() }

// Subscribe has the messages handed over, by this connection and each that takes its place. At most so many messages and bytes
// wait; 0 is as many as nats.go lets wait.
func (k *Conn) Subscribe(subject string, heard nats.MsgHandler, messages, bytes int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := subscription{subject, heard, messages, bytes}
	k.subscriptions = append(k.subscriptions, s)
	if err := s.on(k.NATS()); err != nil && !errors.Is(err, nats.ErrConnectionClosed) { // the next one will have it
		return err
	}
	return nil
}

func (s subscription) on(nc *nats.Conn) error {
	sub, err := nc.Subscribe(s.subject, s.heard)
	if err != nil || s.messages == 0 {
		return err
	}
	return sub.SetPendingLimits(s.messages, s.bytes)
}

// Close closes the connection for good.
func (k *Conn) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	k.NATS().Close()
}

// open makes a connection with all subscriptions. OnUp is called when it has them.
func (k *Conn) open() error {
	whole := make(chan struct{})
	defer close(whole)
	c := k.cfg
	c.OnUp = func() { <-whole; k.cfg.OnUp() }
	c.onClosed = k.lost
	nc, err := Connect(c)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.current.Store(nc)
	if k.over {
		nc.Close()
		return nil
	}
	for _, s := range k.subscriptions {
		if err := s.on(nc); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
			c.Log.Error("cannot subscribe on NATS", "subject", s.subject, "error", err)
		}
	}
	return nil
}

// lost is called when a connection is over.
func (k *Conn) lost(nc *nats.Conn) {
	if k.closed() {
		return
	}
	k.cfg.Log.Error("the NATS server ended the connection, another one is made", "error", nc.LastError())
	k.cfg.OnDown()
	k.replace()
}

// replace tries until it has made a connection.
func (k *Conn) replace() {
	time.AfterFunc(replacePause, func() {
		if k.closed() {
			return
		}
		if err := k.open(); err != nil {
			k.cfg.Log.Error("cannot connect to NATS", "error", err)
			k.replace()
		}
	})
}

func (k *Conn) closed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.over
}
