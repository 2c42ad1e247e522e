package relay

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// Conn is a connection to NATS that lasts until it is closed, and its subscriptions with it. That of nats.go does not: it is
// over for good when the server says an error that nats.go does not know, as it does of a message over a max_payload that was
// lowered. Then another takes its place here. And a subscription that the server denies is asked for again.
type Conn struct {
	cfg     ConnectConfig
	current atomic.Pointer[nats.Conn]

	mu            sync.Mutex
	subscriptions []*subscription
	over          bool
	past          ConnStats // of the connections before
	deniedPause   time.Duration
}

type subscription struct {
	subject         string
	heard           nats.MsgHandler
	messages, bytes int

	made   *nats.Subscription // on the connection of this moment
	denied bool               // and asked for again now and then
	pause  time.Duration      // until the next time
	again  *time.Timer        // ends then; nil before it was ever denied
}

const (
	// replacePause is how long nothing takes the place of a connection that is over: the next one may be so, too.
	replacePause = time.Second
	// deniedPause is how long a denied subscription is not asked for at first: a server whose permissions are mended does not take
	// it up by itself. Each time that it still denies it, in a line of its log, the next pause is twice as long, deniedMost at most.
	deniedPause = 5 * time.Second
	deniedMost  = time.Minute
)

// Keep connects as Connect does, and stays connected until Close.
func Keep(c ConnectConfig) (*Conn, error) {
	k := &Conn{cfg: c.withDefaults(), deniedPause: deniedPause}
	if err := k.open(); err != nil {
		return nil, err
	}
	return k, nil
}

// NATS is the connection of this moment. Use it at once, and once for what belongs together.
func (k *Conn) NATS() *nats.Conn { return k.current.Load() }

// PublishMsg publishes on the connection of this moment. While another is made the error is that of a connection that is away:
// it will be back.
func (k *Conn) PublishMsg(m *nats.Msg) error {
	err := k.NATS().PublishMsg(m)
	if errors.Is(err, nats.ErrConnectionClosed) && !k.closed() {
		return nats.ErrDisconnected
	}
	return err
}

// Subscribe has the messages handed over, by this connection and each that takes its place. At most so many messages and bytes
// wait; 0 is as many as nats.go lets wait.
func (k *Conn) Subscribe(subject string, heard nats.MsgHandler, messages, bytes int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := &subscription{subject: subject, heard: heard, messages: messages, bytes: bytes}
	if err := s.on(k.NATS()); err != nil {
		return err
	}
	k.subscriptions = append(k.subscriptions, s)
	return nil
}

// on makes the subscription on a connection. One that is over needs none: the next one will have it.
func (s *subscription) on(nc *nats.Conn) (err error) {
	if s.made, err = nc.Subscribe(s.subject, s.heard); err == nil && s.messages != 0 {
		err = s.made.SetPendingLimits(s.messages, s.bytes)
	}
	if nc.IsClosed() {
		return nil
	}
	return err
}

// Close closes the connection for good.
func (k *Conn) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	k.NATS().Close()
}

// open makes a connection with all subscriptions, which nobody sees before it has them. OnUp is called after that.
func (k *Conn) open() error {
	whole := make(chan struct{})
	defer close(whole)
	c := k.cfg
	c.OnUp = func() { <-whole; k.hurry(); k.cfg.OnUp() }
	c.OnDenied = func(err error) { k.denied(err); k.cfg.OnDenied(err) }
	c.onClosed = k.lost
	nc, err := Connect(c)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.NATS() != nil {
		k.count(&k.past)
		k.past.Reconnects++
	}
	defer k.current.Store(nc)
	if k.over {
		nc.Close()
		return nil
	}
	for _, s := range k.subscriptions {
		k.make(s, nc)
	}
	return nil
}

// make is on for a subscription that was made before.
func (k *Conn) make(s *subscription, nc *nats.Conn) {
	if err := s.on(nc); err != nil {
		k.cfg.Log.Error("cannot subscribe on NATS", "subject", s.subject, "error", err)
	}
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

// denied is called with what a server says that it denies.
func (k *Conn) denied(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.subscriptions {
		if !s.denied && strings.Contains(err.Error(), `Subscription to "`+s.subject+`"`) {
			s.denied, s.pause = true, k.deniedPause
			s.again = time.AfterFunc(s.pause, func() { k.askAgain(s) })
		}
	}
}

// hurry has what is denied asked for soon: with a connection the user may have changed, or the server.
func (k *Conn) hurry() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.subscriptions {
		if !s.denied {
			continue
		}
		s.pause = k.deniedPause
		if s.again.Stop() { // else it is being asked for
			s.again.Reset(s.pause)
		}
	}
}

// askAgain makes a denied subscription again if the server lets it through by now.
func (k *Conn) askAgain(s *subscription) {
	if k.closed() {
		return
	}
	nc := k.NATS()
	allowed := mayHear(nc, s.subject)
	k.mu.Lock()
	defer k.mu.Unlock()
	if !allowed || k.NATS() != nc {
		s.pause = min(2*s.pause, deniedMost)
		s.again.Reset(s.pause)
		return
	}
	before := s.made
	s.denied = false // so that it counts if the server has changed its mind
	k.make(s, nc)
	_ = before.Unsubscribe() // at the server there is none
	k.cfg.OnAllowed(s.subject)
}

// mayHear reports whether the server lets this user subscribe. It says so only where it does not; its answer to a flush comes
// after that.
func mayHear(nc *nats.Conn, subject string) bool {
	probe, err := nc.SubscribeSync(subject)
	if err != nil {
		return false
	}
	defer func() { _ = probe.Unsubscribe() }() // fails where the connection is over, and the probe with it
	if nc.FlushTimeout(10*time.Second) != nil {
		return false
	}
	_, err = probe.NextMsg(time.Millisecond) // a permission error is there at once
	return err == nil || errors.Is(err, nats.ErrTimeout)
}

func (k *Conn) closed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.over
}
