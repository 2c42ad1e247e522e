package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// message is what stands on the wire between two streams; req tells the req subject from ctl.
type message struct {
	payload []byte
	req     bool
}

// link is one direction of a network. mangle decides what becomes of the n-th message: it returns what arrives.
type link struct {
	mangle  func(n int, m message) []message
	deliver func(message)

	mu    sync.Mutex
	sent  int
	queue []message
	more  chan struct{}
}

func (l *link) send(m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.payload = bytes.Clone(m.payload) // a receiver opens in place
	n := l.sent
	l.sent++
	arriving := []message{m}
	if l.mangle != nil {
		arriving = l.mangle(n, m)
	}
	l.queue = append(l.queue, arriving...)
	select {
	case l.more <- struct{}{}:
	default:
	}
}

// count is how many messages were sent.
func (l *link) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// run delivers from one goroutine, as a NATS subscription does.
func (l *link) run(stop <-chan struct{}) {
	for {
		l.mu.Lock()
		queue := l.queue
		l.queue = nil
		l.mu.Unlock()
		for _, m := range queue {
			l.deliver(message{bytes.Clone(m.payload), m.req})
		}
		select {
		case <-l.more:
		case <-stop:
			return
		}
	}
}

// pair is two streams of one request, with a network between them and the ticking that publisher and worker do.
type pair struct {
	t            testing.TB
	grant        *Grant
	id           ID
	app, svc     *Stream // svc is nil until accepted is closed
	toSvc, toApp *link
	budget       *Budget
	down         atomic.Bool
	accepted     chan struct{}
	head         []byte
	stop         chan struct{}
	wg           sync.WaitGroup
	once         sync.Once
}

const (
	pairLimit  = 16 << 10
	pairBudget = 4 << 20
)

func testGrant() *Grant {
	gid := fixedID("gid")
	return &Grant{App: appName, Service: serviceName, Gid: gid, keys: newKeySource(seed("secret"), gid)}
}

func newPair(t testing.TB) *pair {
	p := &pair{
		t: t, grant: testGrant(), id: fixedID("request"), budget: NewBudget(pairBudget),
		toSvc: &link{more: make(chan struct{}, 1)}, toApp: &link{more: make(chan struct{}, 1)},
		accepted: make(chan struct{}), stop: make(chan struct{}),
	}
	p.app = p.stream(RoleApp, p.toSvc, HeadFrame{})
	p.app.SetGrant([]byte("a.grant.is.not.read"))
	p.toSvc.deliver = p.atService
	p.toApp.deliver = func(m message) { _ = p.app.Deliver(m.payload) }
	return p
}

func (p *pair) stream(role Role, out *link, request HeadFrame) *Stream {
	return NewStream(context.Background(), StreamConfig{
		Role: role, ID: p.id, Grant: p.grant, Limit: pairLimit, Budget: p.budget, Now: time.Now, Request: request,
		Publish: func(b []byte, t FrameType, _ int) error {
			if p.down.Load() {
				return nats.ErrReconnectBufExceeded
			}
			out.send(message{b, role == RoleApp && (t == FrameHead || t == FrameWhole)})
			return nil
		},
	})
}

// atService is the worker's admission, as little of it as a stream needs.
func (p *pair) atService(m message) {
	if !m.req {
		select {
		case <-p.accepted:
			_ = p.svc.Deliver(m.payload)
		default:
		}
		return
	}
	select {
	case <-p.accepted:
		return // burned
	default:
	}
	if len(m.payload) < 2 {
		return
	}
	n := int(binary.BigEndian.Uint16(m.payload))
	if len(m.payload) < 2+n {
		return
	}
	f, err := openFrame(p.grant.keys.request(p.id), m.payload[2+n:])
	if err != nil || f.Seq != 0 {
		return
	}
	head, body, err := splitHead(f.Body)
	if err != nil {
		return
	}
	p.head = head
	p.svc = p.stream(RoleService, p.toApp, HeadFrame{Type: f.Type})
	p.svc.Preload(body)
	p.goTick(p.svc)
	close(p.accepted)
}

func (p *pair) start() {
	for _, l := range []*link{p.toSvc, p.toApp} {
		p.wg.Go(func() { l.run(p.stop) })
	}
	p.goTick(p.app)
}

func (p *pair) goTick(s *Stream) {
	p.wg.Go(func() {
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				s.Tick()
			case <-p.stop:
				return
			}
		}
	})
}

func (p *pair) close() {
	p.once.Do(func() {
		p.app.Close()
		close(p.stop)
		p.wg.Wait()
		if p.svc != nil {
			p.svc.Close()
			p.svc.Close() // twice is fine
		}
		if got := p.budget.free.Load(); got != pairBudget {
			p.t.Errorf("the budget is %d after both streams closed, want %d", got, pairBudget)
		}
	})
}

// reconnect is what both ends do after their NATS connection came back.
func (p *pair) reconnect() {
	p.down.Store(false)
	p.app.Resend()
	select {
	case <-p.accepted:
		p.svc.Resend()
	default:
	}
}

// result is what one side of an exchange has seen.
type result struct {
	head    []byte
	body    []byte
	informs int
	end     *End
	err     error
}

func testBody(label string, n int) []byte {
	b := make([]byte, 0, n+32)
	for i := uint32(0); len(b) < n; i++ {
		b = append(binary.BigEndian.AppendUint32(b, i), seed(label)[:12]...)
	}
	return b[:n]
}

var (
	requestBody = testBody("request body", 200_000)
	replyBody   = testBody("reply body", 300_000)
)

// exchange sends a body each way, at the same time, with a 1xx and a trailer, and returns what each side received.
func (p *pair) exchange() (atSvc, atApp result) {
	ctx := p.t.Context()
	var wg sync.WaitGroup
	send := func(s *Stream, body []byte, end *End) error {
		e, err := EncodeHead(end)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(body, 10_000) {
			if _, err := s.WriteData(ctx, part); err != nil {
				return err
			}
		}
		return s.SendEnd(e, 0)
	}
	wg.Go(func() { // the publisher's writer
		err := p.app.SendHead([]byte(`{"request":1}`), requestBody[:1000], false, 0)
		if err == nil {
			err = send(p.app, requestBody[1000:], &End{})
		}
		if err != nil {
			p.t.Errorf("publisher's writer: %v", err)
		}
	})
	wg.Go(func() { // the worker
		select {
		case <-p.accepted:
		case <-p.app.Context().Done():
			atSvc.err = p.app.Err()
			return
		}
		atSvc.head = p.head
		var reader sync.WaitGroup
		reader.Go(func() { atSvc.body, atSvc.err = io.ReadAll(p.svc); atSvc.end = p.svc.Trailer() })
		err := errors.Join(p.svc.SendInform([]byte(`{"status":103}`)), p.svc.SendHead([]byte(`{"reply":1}`), replyBody[:2000], false, 200))
		if err == nil {
			err = send(p.svc, replyBody[2000:], &End{Trailer: map[string][]string{"X-Sum": {"1"}}})
		}
		if err != nil {
			p.t.Errorf("worker's writer: %v", err)
		}
		reader.Wait()
		for waited := time.Duration(0); p.svc.Unacknowledged() > 0 && waited < 10*time.Second; waited += 100 * time.Millisecond {
			time.Sleep(100 * time.Millisecond) // synctest's clock
		}
	})
	wg.Go(func() { // the publisher's reader
		for {
			h, err := p.app.Head(ctx)
			if err != nil {
				atApp.err = err
				return
			}
			if h.Type == FrameInform {
				atApp.informs++
				continue
			}
			atApp.head = h.JSON
			break
		}
		atApp.body, atApp.err = io.ReadAll(p.app)
		atApp.end = p.app.Trailer()
	})
	wg.Wait()
	return atSvc, atApp
}

// exchangeIntact is exchange, and everything arrived.
func (p *pair) exchangeIntact() {
	p.t.Helper()
	p.start()
	defer p.close()
	atSvc, atApp := p.exchange()
	p.checkIntact(atSvc, atApp)
}

func (p *pair) checkIntact(atSvc, atApp result) {
	p.t.Helper()
	if atSvc.err != nil || !bytes.Equal(atSvc.body, requestBody) || string(atSvc.head) != `{"request":1}` {
		p.t.Errorf("worker read %d bytes of %d, head %q: %v", len(atSvc.body), len(requestBody), atSvc.head, atSvc.err)
	}
	if atApp.err != nil || !bytes.Equal(atApp.body, replyBody) || string(atApp.head) != `{"reply":1}` || atApp.informs != 1 {
		p.t.Errorf("publisher read %d bytes of %d, head %q, %d informs: %v", len(atApp.body), len(replyBody), atApp.head, atApp.informs, atApp.err)
	}
	if atApp.end == nil || atApp.end.Trailer.Get("X-Sum") != "1" {
		p.t.Errorf("trailer %+v", atApp.end)
	}
}

// peer is the other end of a stream under test, with its keys and without its manners.
type peer struct {
	t    testing.TB
	s    *Stream
	ctl  uint64
	salt []byte
	got  []Frame // what the stream under test published, opened
	mu   sync.Mutex
}

// newPeer makes a stream of the given role and the liar it talks to.
func newPeer(t testing.TB, role Role) *peer {
	p := &peer{t: t, ctl: controlSeq, salt: seed("salt")[:saltSize]}
	grant, id := testGrant(), fixedID("request")
	p.s = NewStream(context.Background(), StreamConfig{
		Role: role, ID: id, Grant: grant, Limit: pairLimit, Budget: NewBudget(pairBudget), Now: time.Now,
		Publish: func(b []byte, _ FrameType, _ int) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			b = bytes.Clone(b)
			aead := grant.keys.request(id)
			if role == RoleService {
				if b[0] == replySalted {
					p.salt = bytes.Clone(b[1 : 1+saltSize])
					b = b[1+saltSize:]
				}
				aead = grant.keys.reply(id, p.salt)
			} else if b[0] != Version { // the grant's length; the test's grant is empty
				b = b[2:]
			}
			f, err := openFrame(aead, b)
			if err != nil {
				return err
			}
			p.got = append(p.got, f)
			return nil
		},
	})
	return p
}

// payload seals a frame as the honest other end would.
func (p *peer) payload(t FrameType, seq uint64, body []byte) []byte {
	if p.s.cfg.Role == RoleService {
		b := newFrame(0, t, seq, len(body))
		return sealFrame(p.s.cfg.Grant.keys.request(p.s.cfg.ID), append(b, body...), 0)
	}
	salt := seed("salt")[:saltSize]
	b := newFrame(1+saltSize, t, seq, len(body))
	b[0] = replySalted
	copy(b[1:], salt)
	return sealFrame(p.s.cfg.Grant.keys.reply(p.s.cfg.ID, salt), append(b, body...), 1+saltSize)
}

func (p *peer) deliver(t FrameType, seq uint64, body []byte) error {
	return p.s.Deliver(p.payload(t, seq, body))
}

func (p *peer) credit(ack uint64, limit int64, resend bool) error {
	t, body := creditFrame(ack, limit, resend)
	p.ctl++
	return p.deliver(t, p.ctl, body)
}

func headPlaintext(head, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(head)))
	return append(append(b, head...), body...)
}
