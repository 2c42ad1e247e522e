package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// heard is a worker that can be sent to.
type heard struct {
	said  *relay.Announcement
	after time.Duration // since it was asked for
}

// workers asks all workers of a service to announce themselves. True: there is one to send to.
func (d *doctor) workers(ctx context.Context, service string) bool {
	name := "workers"
	if len(d.cfg.Services) > 1 {
		name += " " + service
	}
	if len(d.cfg.Side.Trust.Kids(relay.RoleService, service)) == 0 {
		d.failError("trust", relay.Errorf(relay.CodeServiceUnknown, "the trust file does not name the service %s", service))
		return false
	}
	if slices.Contains(d.denied, "publish "+d.subjects.Discover(service)) || slices.Contains(d.denied, "subscribe "+d.subjects.Announce(service)) {
		d.skip(name, "this NATS user may not look for workers of "+service)
		return false
	}
	found, fault, blur := d.discover(ctx, service)
	if len(found) == 0 {
		switch {
		case fault == nil:
			d.failError(name, relay.Errorf(relay.CodeNoWorker, "no worker of service %s has announced itself within %v", service, d.cfg.Wait))
		case fault.Code == relay.CodeWorkerUntrusted:
			d.failError("trust", fault)
		case fault.Code == relay.CodeClockSkew:
			d.failError("clock", fault)
		default:
			d.failError(name, fault)
		}
		return false
	}
	d.heard[service] = found
	d.ok("trust", fmt.Sprintf("this side believes the workers of %s: key %s", service, strings.Join(d.cfg.Side.Trust.Kids(relay.RoleService, service), ", ")))
	if fault != nil { // beside those that are believed there are others
		d.warn("trust", fault.Error(), fault.Code.Info().Remedy)
	}
	var lines []string
	facts := map[string]string{}
	draining := true
	for _, h := range found {
		a := h.said
		lines = append(lines, fmt.Sprintf("%s %s, version %s, %d of %d under way", a.Instance, a.State, a.Version, a.InFlight, a.Capacity))
		facts[a.Instance] = fmt.Sprintf("state %s, version %s, server %s", a.State, a.Version, a.Server)
		draining = draining && a.State == relay.Draining
	}
	check := Check{Name: name, Verdict: OK, Detail: strings.Join(lines, "; "), Facts: facts}
	if draining {
		check.Verdict, check.Remedy = Warning, "Each of them is about to stop: start obo-worker"
	}
	d.add(check)
	ahead := time.Unix(found[0].said.IssuedAt, 0).Sub(d.cfg.Now())
	d.clock("the worker's", ahead, blur+time.Second)
	return true
}

// discover listens until a moment after the first announcement that is believed, at most Wait. The fault is that of the last
// one that was not; blur is how old an announcement may be.
func (d *doctor) discover(ctx context.Context, service string) (found []heard, fault *relay.Error, blur time.Duration) {
	sub, err := d.nc.SubscribeSync(d.subjects.Announce(service))
	if err != nil {
		return nil, relay.Wrap(relay.CodeNATSDenied, err, "listening for announcements"), 0
	}
	defer func() { _ = sub.Unsubscribe() }()
	begin := time.Now()
	if err := d.nc.Publish(d.subjects.Discover(service), nil); err != nil {
		return nil, relay.Wrap(relay.CodeNATSUnavailable, err, "asking for workers"), 0
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Wait)
	defer cancel()
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return found, fault, time.Since(begin)
		}
		a, e := d.believe(service, m)
		switch {
		case e != nil && e.Code != relay.CodeRefused:
			fault = e
		case e != nil || a.State == relay.Gone:
		case !slices.ContainsFunc(found, func(h heard) bool { return h.said.Instance == a.Instance }):
			found = append(found, heard{a, time.Since(begin)})
			if len(found) == 1 {
				defer time.AfterFunc(settle, cancel).Stop()
			}
		}
	}
}

func (d *doctor) believe(service string, m *nats.Msg) (*relay.Announcement, *relay.Error) {
	a, err := d.cfg.Side.Trust.VerifyAnnouncement(service, m.Data, d.cfg.Now())
	if err != nil {
		return nil, relay.AsError(err)
	}
	return a, nil
}
