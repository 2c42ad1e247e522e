package hostile

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience is how long a door waits for what must happen.
const patience = 20 * time.Second

// Door is where one end enters the broker. Give its URL to that end alone.
type Door struct {
	URL string

	tb     testing.TB
	target string
	wg     sync.WaitGroup

	narrow    atomic.Bool
	scripting sync.Mutex // one move at a time
	script    Move

	mu       sync.Mutex
	closed   bool
	links    []*link // oldest first
	made     int
	recorded bool
	passed   []*Message
	spoken   bytes.Buffer  // every byte that the end has sent
	grew     chan struct{} // closed and replaced: passed or links grew
}

// Open opens a door to the NATS server at that URL, until the test ends. Plain TCP only: a test double has no keys.
func Open(tb testing.TB, target string) *Door {
	tb.Helper()
	address, err := url.Parse(target)
	if err != nil {
		tb.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	d := &Door{URL: "nats://" + listener.Addr().String(), tb: tb, target: address.Host, script: Pass, grew: make(chan struct{})}
	d.wg.Go(func() {
		for {
			end, err := listener.Accept()
			if err != nil {
				return
			}
			d.serve(end)
		}
	})
	tb.Cleanup(func() {
		d.Kill()
		_ = listener.Close()
		d.wg.Wait()
	})
	return d
}

// Record keeps all that passes from now on, for Passed, Wait and Spoken.
func (d *Door) Record() *Door {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recorded = true
	return d
}

// Narrow has the system take in little for connections that are made from now on: a server notices soon that nothing is read.
func (d *Door) Narrow() *Door {
	d.narrow.Store(true)
	return d
}

// Script sets what becomes of each message from now on. What is recorded is what came, before the move.
func (d *Door) Script(move Move) {
	d.scripting.Lock()
	defer d.scripting.Unlock()
	d.script = move
}

// Passed is what came through so far in that direction.
func (d *Door) Passed(way Way) []*Message {
	found, _ := d.passedNow(func(m *Message) bool { return m.Way == way })
	return found
}

func (d *Door) passedNow(fits func(*Message) bool) (found []*Message, grew <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.passed {
		if fits(m) {
			found = append(found, m)
		}
	}
	return found, d.grew
}

// Wait waits for the n-th message that fits, counted from 1, and returns a copy.
func (d *Door) Wait(what string, n int, fits func(*Message) bool) *Message {
	d.tb.Helper()
	deadline := time.After(patience)
	for {
		found, grew := d.passedNow(fits)
		if len(found) >= n {
			return found[n-1].Copy()
		}
		select {
		case <-grew:
		case <-deadline:
			d.tb.Fatalf("waited %v for %s, %d of %d came", patience, what, len(found), n)
		}
	}
}

// Spoken is every byte that the end has sent.
func (d *Door) Spoken() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.spoken.Bytes())
}

// Send lets messages go: Up as if the end had sent them, Down as if the server had. No move is made with them.
func (d *Door) Send(messages ...*Message) {
	d.tb.Helper()
	l := d.link()
	for _, m := range messages {
		if err := l.pass(m); err != nil {
			d.tb.Fatalf("sending on %s: %v", m.Subject, err)
		}
	}
}

// Say sends the end a line of the protocol as if the server had, such as an INFO or an -ERR.
func (d *Door) Say(line string) {
	d.tb.Helper()
	if err := d.link().end.write(frame{line: line}); err != nil {
		d.tb.Fatal(err)
	}
}

// link waits until the end is connected.
func (d *Door) link() *link {
	d.tb.Helper()
	deadline := time.After(patience)
	for {
		d.mu.Lock()
		grew := d.grew
		if n := len(d.links); n > 0 {
			defer d.mu.Unlock()
			return d.links[n-1]
		}
		d.mu.Unlock()
		select {
		case <-grew:
		case <-deadline:
			d.tb.Fatalf("waited %v for a connection", patience)
		}
	}
}

func (d *Door) serve(end net.Conn) {
	dialer := net.Dialer{}
	if d.narrow.Load() {
		dialer.Control = smallReadBuffer
	}
	server, err := dialer.Dial("tcp", d.target)
	if err != nil {
		_ = end.Close()
		return
	}
	l := newLink(d, end, server)
	if !d.add(l) {
		l.close()
		return
	}
	for _, from := range []*side{l.end, l.server} {
		d.wg.Go(func() {
			err := l.run(from)
			l.close()
			d.drop(l)
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.As(err, new(*net.OpError)) {
				d.tb.Error(err) // not the NATS protocol: then no test means what it says
			}
		})
	}
}

func (d *Door) add(l *link) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.made++
	d.links = append(d.links, l)
	d.wake()
	return true
}

// wake tells those who wait; the caller holds mu.
func (d *Door) wake() {
	close(d.grew)
	d.grew = make(chan struct{})
}

func (d *Door) drop(l *link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, x := range d.links {
		if x == l {
			d.links = append(d.links[:i:i], d.links[i+1:]...)
		}
	}
}

// decide records a message and makes the script's move.
func (d *Door) decide(m *Message) []*Message {
	d.scripting.Lock()
	defer d.scripting.Unlock()
	d.record(m)
	return d.script(m)
}

func (d *Door) record(m *Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.recorded {
		d.passed = append(d.passed, m.Copy())
		d.wake()
	}
}

func (d *Door) spoke(f frame) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.recorded {
		d.spoken.Write(f.append(nil))
	}
}

// Cut closes all connections, wherever in a message they are. New ones are let through.
func (d *Door) Cut() {
	d.mu.Lock()
	links := append([]*link(nil), d.links...)
	d.mu.Unlock()
	for _, l := range links {
		l.close()
	}
}

// Kill closes all connections and lets none through until Revive: the process behind the door is dead to the broker.
func (d *Door) Kill() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.Cut()
}

// Revive lets connections through again.
func (d *Door) Revive() {
	d.mu.Lock()
	d.closed = false
	d.mu.Unlock()
}

// Made is how many connections were let through.
func (d *Door) Made() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.made
}
