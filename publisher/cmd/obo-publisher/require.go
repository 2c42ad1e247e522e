package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay"
)

// listenTime is for the announcements of workers that run.
const listenTime = time.Second

// relayFaults looks, for --require-relay, at what settings cannot tell: that there is a NATS server, that it is one, and that
// the workers that run are trusted. That none runs is no fault, since it may start later.
func (p *process) relayFaults(ctx context.Context) error {
	cfg := p.side.Connect
	cfg.Name = command + " --require-relay"
	nc, err := relay.ConnectOnce(cfg)
	if err != nil {
		return fmt.Errorf("--nats (OBO_NATS): cannot connect to NATS: %w: %s", err, cfg.Remedy(err))
	}
	defer nc.Close()
	faults := []error{relay.CheckBrokers(ctx, cfg)}
	for _, r := range p.routes {
		faults = append(faults, p.distrusts(ctx, nc, r.service))
	}
	return errors.Join(faults...)
}

// distrusts returns why none of the workers that announce themselves is believed, nil if one is or there is none.
func (p *process) distrusts(ctx context.Context, nc *nats.Conn, service string) error {
	subjects, _ := relay.NewSubjects(p.side.Prefix) // validated
	sub, err := nc.SubscribeSync(subjects.Announce(service))
	if err == nil {
		err = nc.Publish(subjects.Discover(service), nil)
	}
	if err != nil {
		return fmt.Errorf("listening for workers of service %s: %w", service, err)
	}
	ctx, cancel := context.WithTimeout(ctx, listenTime)
	defer cancel()
	var fault error
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return fault
		}
		if _, err = p.side.Trust.VerifyAnnouncement(service, m.Data, time.Now()); err == nil {
			return nil
		}
		fault = fmt.Errorf("%w: %s", err, relay.AsError(err).Code.Info().Remedy)
	}
}
