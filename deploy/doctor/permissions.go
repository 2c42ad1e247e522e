package doctor

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// permissions tries the subjects that this side needs, and one that it should not have. What is published goes to instances
// and inboxes that do not exist.
func (d *doctor) permissions() {
	publish, subscribe := d.needs()
	var denied []string
	for _, subject := range publish {
		if d.isDenied(subject, func() error { return d.nc.Publish(subject, nil) }) {
			denied = append(denied, "publish "+subject)
		}
	}
	for _, subject := range subscribe {
		if d.isDenied(subject, func() error { return d.listen(subject) }) {
			denied = append(denied, "subscribe "+subject)
		}
	}
	d.denied = denied
	if len(denied) > 0 {
		d.fail("permissions", "the NATS server denies: "+strings.Join(denied, ", "), "Grant this user what obo init writes into nats-server.conf for it, and let the server read that again (SIGHUP); or correct the user or --subject-prefix")
		return
	}
	if all := d.subjects.Root() + ".>"; !d.isDenied(all, func() error { return d.listen(all) }) {
		d.warn("permissions", "this user may listen to everything of the relay ("+all+"), more than it needs", "Use the least-privilege nats-server.conf of obo init. What is in the messages stays sealed")
		return
	}
	d.ok("permissions", fmt.Sprintf("%d subjects to publish on and %d to subscribe to, as needed, and no more", len(publish), len(subscribe)))
}

// needs are the exact subjects, with an instance, inbox and request that nobody has.
func (d *doctor) needs() (publish, subscribe []string) {
	s, instance, inbox, id := d.subjects, relay.NewInstance(), relay.NewID(), relay.NewID()
	if d.cfg.Role == relay.RoleService {
		publish = []string{s.Announce(d.cfg.Name)}
		for _, app := range d.cfg.Side.Trust.Names(relay.RoleApp) {
			publish = append(publish, s.Reply(app, inbox, id))
		}
		return publish, []string{s.Worker(d.cfg.Name, instance), s.Discover(d.cfg.Name)}
	}
	for _, service := range d.cfg.Services {
		publish = append(publish, s.Discover(service), s.Request(service, instance, d.cfg.Name), s.Control(service, instance, d.cfg.Name, id))
		subscribe = append(subscribe, s.Announce(service))
	}
	return publish, append(subscribe, s.Inbox(d.cfg.Name, inbox))
}

// listen subscribes and takes it back.
func (d *doctor) listen(subject string) error {
	sub, err := d.nc.SubscribeSync(subject)
	if err == nil {
		err = d.nc.FlushTimeout(d.cfg.Timeout)
		_ = sub.Unsubscribe() // a denied one is gone already
	}
	return err
}

// isDenied does something with a subject. The server's no comes before the answer to the flush.
func (d *doctor) isDenied(subject string, try func() error) bool {
	if err := try(); errors.Is(err, nats.ErrPermissionViolation) {
		return true
	}
	if d.nc.FlushTimeout(d.cfg.Timeout) != nil {
		return false // told elsewhere
	}
	err := d.nc.LastError()
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`)
}

// settle gives workers a moment to answer discover once the first has.
const settle = 300 * time.Millisecond
