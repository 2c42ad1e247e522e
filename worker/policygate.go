package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// gate says who a person is and what they may do. Relayed requests and those of the front door pass the same one.
type gate struct {
	lookup Lookup // nil: nobody is looked up
	policy atomic.Pointer[Policy]
	opaque bool
	now    func() time.Time
	log    *slog.Logger
}

func newGate(c Config) *gate {
	g := &gate{lookup: c.Lookup, opaque: c.OpaqueTokens, now: c.Now, log: c.Log}
	g.policy.Store(c.Policy)
	return g
}

// verdict is what the gate says of one request.
type verdict struct {
	user    *User        // nil if nobody looked them up
	rule    string       // the match of the policy's rule that decided, empty if none did
	denied  bool         // the refusal is the policy's
	refusal *relay.Error // nil: the request may go on
}

// judge makes check 8 of PROTOCOL.md §8. Method and path have passed the rules of §9.
func (g *gate) judge(ctx context.Context, id relay.ID, token relay.Token, method, path string) (v verdict) {
	if g.lookup != nil {
		var err error
		if v.user, err = g.lookup.User(ctx, token); err != nil {
			v.refusal = asLookupError(ctx, err)
			return v
		}
	}
	policy := g.policy.Load()
	if policy == nil {
		return v
	}
	d := policy.Decide(method, path, v.user)
	v.rule = d.Rule
	if !d.Allowed {
		v.denied, v.refusal = true, policy.refusal(d)
		g.log.Info("denied by the policy", "request_id", id.String(), "reason", d.Reason)
	}
	return v
}

// check is what can be said of a token without asking anybody.
func (g *gate) check(token relay.Token) *relay.Error {
	switch {
	case token.Opaque() && !g.opaque:
		return relay.NewError(relay.CodeTokenOpaque, "the access token is not a JWT with an expiry")
	case !token.Opaque() && g.now().Sub(token.Expiry()) > relay.Leeway:
		return relay.Errorf(relay.CodeTokenExpired, "the token expired %v ago", g.now().Sub(token.Expiry()).Round(time.Second))
	}
	return nil
}

// checkPolicy says why a policy cannot be put in force with the look-up as it is.
func checkPolicy(p *Policy, lookup Lookup) error {
	if p != nil && lookup == nil && p.namesPeople() {
		return errors.New("the policy names groups or users, but the look-up of users is off, so nobody knows who a person is: switch it on (--user-lookup=on), or use anyone and deny only")
	}
	return nil
}

// SetPolicy puts another policy in force at once, for requests that are not yet let through. It refuses to do without one,
// and what New would refuse; then the policy in force stays.
func (w *Worker) SetPolicy(p *Policy) error {
	if p == nil {
		return errors.New("there is no policy to put in force")
	}
	if err := checkPolicy(p, w.cfg.Lookup); err != nil {
		return err
	}
	w.gate.policy.Store(p)
	return nil
}
