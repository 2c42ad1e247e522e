package worker

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/obo-relay/obo-relay/relay"
)

// The worker answers the NATS micro protocol (ADR-32) itself, with the document types of nats.go/micro: that package's
// endpoints count messages, here one request is many frames, and it answers to any reply subject, here only to the
// inspector's inbox.

const microEndpoint = "requests"

func (w *Worker) microName() string { return "obo-" + w.cfg.Service }

// serveMicro subscribes to the three verbs, each for all services, for this one, and for this instance.
func (w *Worker) serveMicro() error {
	for verb, document := range map[micro.Verb]func() any{
		micro.PingVerb:  func() any { return micro.Ping{ServiceIdentity: w.identity(), Type: micro.PingResponseType} },
		micro.InfoVerb:  func() any { return w.info() },
		micro.StatsVerb: func() any { return w.microStats() },
	} {
		answer := func(m *nats.Msg) {
			if !strings.HasPrefix(m.Reply, w.cfg.InspectorInbox+".") {
				return
			}
			if b, err := json.Marshal(document()); err == nil {
				_ = m.Respond(b) // best effort, as all of ADR-32
			}
		}
		for _, id := range [][2]string{{"", ""}, {w.microName(), ""}, {w.microName(), w.instance}} {
			subject, err := micro.ControlSubject(verb, id[0], id[1])
			if err != nil {
				return fmt.Errorf("micro: %w", err)
			}
			if err := w.nc.Subscribe(subject, answer, 0, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *Worker) identity() micro.ServiceIdentity {
	return micro.ServiceIdentity{
		Name: w.microName(), ID: w.instance, Version: microVersion(w.cfg.Version),
		Metadata: map[string]string{
			"service": w.cfg.Service, "version": w.cfg.Version, "state": w.condition(),
			"identity_key": w.signer.Load().Kid(), "instance_keys": strings.Join(w.keys.kids(), " "),
			"trusted_apps": strings.Join(w.admission.trust.Load().Names(relay.RoleApp), " "),
		},
	}
}

// condition is the worker's state for people and checks: one that hears no requests, or refuses them, is not ready.
func (w *Worker) condition() string {
	switch state := w.state(); {
	case state == relay.Ready && w.deaf.Load():
		return string(relay.CodeNATSDenied)
	case state == relay.Ready && w.audit.refuses():
		return string(relay.CodeAuditDown)
	default:
		return string(state)
	}
}

// microVersion is the version as ADR-32 wants it: semantic, without v.
func microVersion(v string) string {
	v = strings.TrimPrefix(v, "v")
	if v == "" || v[0] < '0' || v[0] > '9' {
		return "0.0.0-dev"
	}
	return v
}

func (w *Worker) info() micro.Info {
	return micro.Info{
		ServiceIdentity: w.identity(), Type: micro.InfoResponseType,
		Description: "obo-relay worker of " + w.cfg.Service + ": acts as the person who sent the request",
		Endpoints:   []micro.EndpointInfo{{Name: microEndpoint, Subject: w.subjects.Worker(w.cfg.Service, w.instance)}},
	}
}

// microData is what `nats micro stats` shows beside the counters that ADR-32 names.
type microData struct {
	Outcomes    map[string]uint64 `json:"outcomes"` // by code, "done" for replies of the handler
	InFlight    int64             `json:"in_flight"`
	Capacity    int               `json:"capacity"`
	Dropped     uint64            `json:"dropped"` // messages and frames that changed nothing
	ReplayCache int               `json:"replay_cache"`
}

func (w *Worker) microStats() micro.Stats {
	c := w.stats.read()
	data, _ := json.Marshal(microData{c.outcomes, w.stats.inFlight.Load(), w.cfg.MaxInFlight, w.stats.dropped.Load(), w.admission.replay.len()})
	endpoint := &micro.EndpointStats{
		Name: microEndpoint, Subject: w.subjects.Worker(w.cfg.Service, w.instance),
		NumRequests: c.requests, NumErrors: c.errors, LastError: c.last, ProcessingTime: c.spent, Data: data,
	}
	if c.requests > 0 {
		endpoint.AverageProcessingTime = c.spent / time.Duration(c.requests)
	}
	return micro.Stats{ServiceIdentity: w.identity(), Type: micro.StatsResponseType, Started: w.stats.started.UTC(), Endpoints: []*micro.EndpointStats{endpoint}}
}
