package worker

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// exchange is one request at this worker, from its first message until nothing of its reply need be kept.
type exchange struct {
	key   exchangeKey
	quota *quota // its app's

	mu      sync.Mutex       // orders Deliver: frames that came before the stream existed go first
	stream  *relay.Stream    // nil until the request is admitted
	sent    *relay.SentReply // in place of the stream once that is all that need be kept
	run     *exchangeRun     // nil before and after the handler's time
	pending [][]byte         // frames on ctl that overtook the admission
	waiting int              // bytes in pending
	missed  bool             // a frame did not fit there
	refused bool             // or over: nothing is taken in any more
	told    bool             // the publisher was told that the stream is broken; the ticker's own

	kept int // bytes that count for it in exchanges.kept; of exchanges
}

// exchangeKey is what a ctl subject names. Whoever sends on it is the app, or the broker, which can deny service anyway.
type exchangeKey struct {
	app string
	id  relay.ID
}

const (
	maxPendingFrames = 64
	maxPendingBytes  = 256 << 10 // the first window and its framing
)

// deliver takes in one frame from ctl. It never blocks.
func (x *exchange) deliver(b []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.sent != nil:
		return x.sent.Deliver(b)
	case x.stream != nil:
		return x.stream.Deliver(b)
	case x.refused:
		return errNoSuchRequest
	}
	if len(x.pending) >= maxPendingFrames || x.waiting+len(b) > maxPendingBytes || !x.quota.mayWait(len(b)) {
		x.missed = true
		return errPendingFull
	}
	x.pending = append(x.pending, b)
	x.waiting += len(b)
	return nil
}

// unwait lets go of the frames that have waited; the caller holds mu.
func (x *exchange) unwait() {
	x.quota.pending.Add(-int64(x.waiting))
	x.pending, x.waiting = nil, 0
}

// refuse lets go of the frames of a request that is not admitted.
func (x *exchange) refuse() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.refused = true
	x.unwait()
}

// admit gives the exchange its stream and the frames that have been waiting for it. Those that found no room are asked for
// now: the publisher may have sent all that it may, so that no later frame shows the gap.
func (x *exchange) admit(s *relay.Stream, run *exchangeRun) {
	x.mu.Lock()
	x.stream, x.run = s, run
	for _, b := range x.pending {
		_ = s.Deliver(b)
	}
	x.unwait()
	missed := x.missed
	x.mu.Unlock()
	if missed {
		s.Resend()
	}
}

// interrupt breaks off a request that is under way.
func (x *exchange) interrupt(cause *relay.Error) {
	x.mu.Lock()
	run := x.run
	x.mu.Unlock()
	if run != nil {
		run.interrupt(cause)
	}
}

// done notes that the handler's time is over.
func (x *exchange) done() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.run = nil
}

// settle lets go of what a finished reply no longer needs, and returns the memory that it goes on taking; 0: none.
func (x *exchange) settle() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.sent = x.stream.Sent(); x.sent != nil {
		x.stream = nil
		return x.sent.Size() + sentOverhead
	}
	unread := x.stream.Discard()
	if n := x.stream.Unacknowledged(); n > 0 {
		return n + unread + keptOverhead
	}
	return 0
}

// over reports whether the publisher has the whole reply, or does not want it any more. It never blocks.
func (x *exchange) over() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.sent != nil && x.sent.Over() || x.stream != nil && x.stream.Over()
}

// tick keeps the request alive. If its stream broke before the tick, its handler has had the time to return; for one that has not
// the publisher is told now.
func (x *exchange) tick() {
	x.mu.Lock()
	stream, run := x.stream, x.run
	x.mu.Unlock()
	switch {
	case stream == nil:
	case stream.Err() == nil:
		stream.Tick()
	case run != nil && !x.told && !errors.Is(stream.Err(), relay.CodeCanceled):
		x.told = true
		go run.interrupt(relay.AsError(stream.Err()))
	}
}

// resend sends again what is not acknowledged.
func (x *exchange) resend() {
	x.mu.Lock()
	stream, sent := x.stream, x.sent
	x.mu.Unlock()
	switch {
	case sent != nil:
		sent.Resend()
	case stream != nil:
		stream.Resend()
	}
}

func (x *exchange) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.stream != nil {
		x.stream.Close()
	}
	x.stream, x.sent, x.refused = nil, nil, true
}

// exchanges are the requests that this worker knows: those under way, and those whose finished reply is kept for a resend.
type exchanges struct {
	mu       sync.Mutex
	all      map[exchangeKey]*exchange
	finished []finished  // oldest first
	kept     int         // bytes in finished
	over     []*exchange // taken out before their time, to be closed
}

type finished struct {
	x     *exchange
	until time.Duration // by the worker's monotonic clock
}

const (
	keepFinished     = 10 * time.Second
	maxKept          = 32 << 20 // bytes of finished replies
	keptOverhead     = 4 << 10  // what an exchange costs beside its frames
	sentOverhead     = 1 << 10  // the same without its stream
	errPendingFull   = fault("frames overtook the admission of their request")
	errNoSuchRequest = fault("a frame for no request of this worker")
)

type fault string

func (f fault) Error() string { return string(f) }

func newExchanges() *exchanges { return &exchanges{all: map[exchangeKey]*exchange{}} }

// start registers a request id; nil if it is known already.
func (e *exchanges) start(key exchangeKey, quota *quota) *exchange {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all[key] != nil {
		return nil
	}
	x := &exchange{key: key, quota: quota}
	e.all[key] = x
	return x
}

func (e *exchanges) get(key exchangeKey) *exchange {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.all[key]
}

// deliver hands a frame to its request, and lets go of a finished reply that need not be kept any more. It never blocks.
func (e *exchanges) deliver(key exchangeKey, b []byte) error {
	x := e.get(key)
	if x == nil {
		return errNoSuchRequest
	}
	err := x.deliver(b)
	if x.over() {
		e.mu.Lock()
		if e.uncount(x) {
			e.over = append(e.over, x)
		}
		e.mu.Unlock()
	}
	return err
}

// uncount takes a finished exchange out, if it is there still; the caller holds mu.
func (e *exchanges) uncount(x *exchange) bool {
	if x.kept == 0 {
		return false
	}
	e.kept -= x.kept
	x.kept = 0
	delete(e.all, x.key)
	return true
}

// forget drops an exchange of which nothing need be kept.
func (e *exchanges) forget(x *exchange) {
	e.mu.Lock()
	delete(e.all, x.key)
	e.mu.Unlock()
	x.close()
}

// finish keeps the frames of a reply that the publisher has not acknowledged, for a while and within bounds.
func (e *exchanges) finish(x *exchange, now time.Duration) {
	bytes := x.settle()
	if bytes == 0 {
		e.forget(x)
		return
	}
	e.mu.Lock()
	e.finished = append(e.finished, finished{x, now + keepFinished})
	x.kept = bytes
	e.kept += bytes
	drop := e.expired(now)
	e.mu.Unlock()
	closeAll(drop)
}

// sweep forgets what has been kept long enough.
func (e *exchanges) sweep(now time.Duration) {
	e.mu.Lock()
	drop := e.expired(now)
	e.mu.Unlock()
	closeAll(drop)
}

// expired takes out the finished exchanges that are over, too old or too many; the caller holds mu.
func (e *exchanges) expired(now time.Duration) (drop []*exchange) {
	drop, e.over = e.over, nil
	n := 0
	for n < len(e.finished) && (e.finished[n].until <= now || e.kept > maxKept) {
		if x := e.finished[n].x; e.uncount(x) {
			drop = append(drop, x)
		}
		n++
	}
	clear(e.finished[:n])
	e.finished = e.finished[n:]
	return drop
}

func closeAll(drop []*exchange) {
	for _, x := range drop {
		x.close()
	}
}

// resend sends again what is not acknowledged, of finished exchanges too.
func (e *exchanges) resend() {
	e.mu.Lock()
	all := slices.Collect(maps.Values(e.all))
	e.mu.Unlock()
	for _, x := range all {
		x.resend()
	}
}

// underWay lists the exchanges whose handler has not ended.
func (e *exchanges) underWay() []*exchange {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []*exchange
	for _, x := range e.all {
		x.mu.Lock()
		if x.run != nil {
			out = append(out, x)
		}
		x.mu.Unlock()
	}
	return out
}

// tick keeps the requests under way alive, and forgets old replies.
func (e *exchanges) tick(now time.Duration) {
	e.sweep(now)
	for _, x := range e.underWay() {
		x.tick()
	}
}
