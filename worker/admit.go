package worker

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/singleflight"

	"github.com/obo-relay/obo-relay/relay"
)

// admission makes the checks 2 to 5 of PROTOCOL.md §8: it opens the grant and the head, and burns the request's id.
type admission struct {
	service string
	opaque  bool
	keys    *keyring
	replay  *replayCache
	clock   *clockGuard
	now     func() time.Time
	trust   atomic.Pointer[relay.Trust]
	grants  *lru.Cache[relay.GrantHash, *relay.Grant]
	opening singleflight.Group // one signature check for many requests under one new grant
	dear    chan struct{}      // bounds public-key work to the number of processors
	turns   *slots             // to open and check requests, until they wait for a slot or are refused
	opened  atomic.Uint64      // grants opened
	log     *slog.Logger
	signers sync.Map // app and thumbprint of the keys that were used
}

func newAdmission(c Config, keys *keyring) (*admission, error) {
	grants, err := lru.New[relay.GrantHash, *relay.Grant](c.GrantCache)
	if err != nil {
		return nil, err
	}
	a := &admission{
		service: c.Service, opaque: c.OpaqueTokens, keys: keys, replay: newReplayCache(c.ReplayCapacity), clock: newClockGuard(c.Now()), now: c.Now,
		grants: grants, dear: make(chan struct{}, runtime.GOMAXPROCS(0)), turns: newTurns(), log: c.Log,
	}
	a.setTrust(c.Trust)
	return a, nil
}

const errTooManyGrants = fault("the app sends new grants faster than this worker opens them (GrantRate)")

// setTrust puts another trust file in force and forgets every grant opened under the old one.
func (a *admission) setTrust(t *relay.Trust) {
	a.turns.setApps(len(t.Names(relay.RoleApp)))
	a.trust.Store(t)
	a.grants.Purge()
}

// forget drops grants that have run out: they hold tokens.
func (a *admission) forget() {
	now := a.now()
	for _, hash := range a.grants.Keys() {
		if g, ok := a.grants.Peek(hash); ok && now.Sub(g.Expiry) > relay.Leeway {
			a.grants.Remove(hash)
		}
	}
}

// clockStep returns by how much the wall clock was stepped. If it was, keys and grants are destroyed, after which nothing
// sealed before can be opened; what was burned stays burned, for the requests that are being admitted at this moment.
func (a *admission) clockStep() (time.Duration, error) {
	now := a.now()
	step := a.clock.step(now)
	if step == 0 {
		return 0, nil
	}
	if err := a.keys.reset(); err != nil {
		return step, err
	}
	a.grants.Purge()
	a.clock.accept(now)
	return step, nil
}

// admitted is a request that has been opened and burned. Only now may anything be sealed for it.
type admitted struct {
	whose person // whose turn it is; who goes on with the request releases that
	grant *relay.Grant
	head  *relay.RequestHead
	frame relay.HeadFrame
	body  []byte
	whole bool
	fault *relay.Error // the head is authentic but breaks a rule: to be refused, sealed
}

// admit opens one message on a req subject, and leaves to what it admits the person's turn. Its error may be answered
// unsealed with its code, and is for the log.
func (a *admission) admit(quota *quota, m *nats.Msg, from, reply relay.Address) (*admitted, *relay.Error) {
	sealed, hash, frame, err := relay.SplitRequest(m.Data)
	if err != nil {
		return nil, relay.Wrap(relay.CodeRefused, err, "message")
	}
	now := a.now()
	grant, err := a.grant(quota, sealed, hash, from.App, now)
	if errors.Is(err, relay.CodeGrantUnknown) {
		return nil, relay.AsError(err)
	}
	if err != nil {
		return nil, relay.Wrap(relay.CodeRefused, err, "refused before it was opened")
	}
	whose := personOf(from.App, grant.Token)
	_ = a.turns.acquire(context.Background(), whose) // neither ends nor overflows
	out, fault := a.open(whose, grant, m, from, reply, frame)
	if fault != nil {
		a.turns.release(whose)
	}
	return out, fault
}

// open makes check 5, by the time of now: a turn may have come late.
func (a *admission) open(whose person, grant *relay.Grant, m *nats.Msg, from, reply relay.Address, frame []byte) (*admitted, *relay.Error) {
	opened, err := grant.OpenRequest(reply.ID, frame)
	if err != nil {
		return nil, relay.Wrap(relay.CodeRefused, err, "the head")
	}
	head, err := relay.DecodeRequestHead(opened.JSON)
	if err != nil {
		// Authentic, so the app itself is at fault, but nothing can be checked: not burned, not sealed.
		return nil, relay.Wrap(relay.CodeRefused, err, "the head")
	}
	if head.Subject != m.Subject || head.Reply != m.Reply {
		return nil, relay.NewError(relay.CodeRefused, "the head is for other subjects than it came on: the broker moves or maps messages")
	}
	if err := relay.CheckHints(m.Header, reply.ID, head); err != nil {
		return nil, relay.Wrap(relay.CodeRefused, err, "hints")
	}
	now := a.now()
	if step := a.clock.step(now); step != 0 {
		// Until the keys are gone, a captured request whose id was forgotten could be inside the window again.
		return nil, relay.Errorf(relay.CodeClockSkew, "this machine's clock was stepped by %v a moment ago", step.Round(time.Second))
	}
	opener := a.opener()
	if err := opener.Usable(grant, from.App, now); err != nil { // the step, or the app's key, went while this waited
		return nil, relay.Wrap(relay.CodeRefused, err, "no longer good when its turn came")
	}
	if err := a.replay.burn(burnKey{grant.Gid, reply.ID}, from.App, time.UnixMilli(head.IssuedAt), now); err != nil {
		return nil, err
	}
	out := &admitted{whose: whose, grant: grant, head: head, frame: opened, body: opened.Body, whole: opened.Type == relay.FrameWhole}
	if err := head.Check(); err != nil {
		out.fault = relay.AsError(err)
	}
	return out, nil
}

func (a *admission) opener() relay.Opener {
	return relay.Opener{Service: a.service, Trust: a.trust.Load(), Key: a.keys.get, Opaque: a.opaque}
}

// grant returns the opened grant, from the cache if it still holds. sealed is nil where a request only refers to it.
func (a *admission) grant(quota *quota, sealed []byte, hash relay.GrantHash, app string, now time.Time) (*relay.Grant, error) {
	opener := a.opener()
	if g, ok := a.grants.Get(hash); ok {
		if err := opener.Usable(g, app, now); err != nil {
			a.grants.Remove(hash)
			return nil, err
		}
		return g, nil
	}
	if sealed == nil {
		return nil, relay.NewError(relay.CodeGrantUnknown, "the request refers to a grant that is not kept here")
	}
	g, err, _ := a.opening.Do(app+" "+string(hash[:]), func() (any, error) {
		if !quota.mayOpen(now) {
			return nil, errTooManyGrants
		}
		for _, bound := range []chan struct{}{quota.dear, a.dear} {
			bound <- struct{}{}
			defer func() { <-bound }()
		}
		g, err := opener.Open(string(sealed), app, now)
		if err != nil {
			return nil, err
		}
		a.opened.Add(1)
		a.noteSigner(app, g.SignedBy)
		a.grants.Add(hash, g)
		if a.trust.Load() != opener.Trust { // replaced meanwhile: what was opened under the old one must not stay
			a.grants.Remove(hash)
		}
		return g, nil
	})
	if err != nil {
		return nil, err
	}
	return g.(*relay.Grant), nil
}

// noteSigner tells, once, that an app uses a key: who replaces it sees when the new one has arrived.
func (a *admission) noteSigner(app, kid string) {
	if _, known := a.signers.LoadOrStore(app+" "+kid, nil); !known {
		a.log.Info("an app's key is in use", "app", app, "key", kid)
	}
}
