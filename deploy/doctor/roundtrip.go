package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/obo-relay/obo-relay/publisher"
	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// mePath is answered by the worker itself: who the person is.
const mePath = worker.RoutesPrefix + "me"

// tries is how often what is warm is measured; the quickest counts.
const tries = 3

// roundTrip sends requests as the person, and tells where their time goes.
func (d *doctor) roundTrip(ctx context.Context, service string) {
	name := "round trip"
	if len(d.cfg.Services) > 1 {
		name += " " + service
	}
	if d.token.IsZero() {
		d.skip(name, "it takes a token that has not expired")
		return
	}
	transport, err := publisher.New(publisher.Config{
		App: d.cfg.Name, Identity: d.cfg.Side.Identity, Trust: d.cfg.Side.Trust, NATS: d.cfg.Side.Connect, Prefix: d.cfg.Side.Prefix,
		Hints: d.cfg.Side.Hints, Timeout: d.cfg.Timeout, DiscoverWait: d.cfg.Wait, ConnectWait: d.cfg.Timeout,
		OpaqueTokens: d.cfg.OpaqueTokens, Log: slog.New(slog.DiscardHandler), Now: d.cfg.Now,
	})
	if err != nil {
		d.fail(name, err.Error(), "Correct the settings")
		return
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- transport.Run(life) }()
	defer func() { stop(); <-ended }()
	t := &trip{doctor: d, name: name, service: service, transport: transport}
	t.run(ctx)
}

// trip is that of one service.
type trip struct {
	*doctor
	name, service string
	transport     *publisher.Transport
}

func (t *trip) run(ctx context.Context) {
	grant := t.grant()
	if t.warmUp(ctx) != nil {
		return
	}
	cold, answer, err := t.get(ctx, mePath)
	if err != nil {
		t.refused(err)
		return
	}
	t.ok("trust of the worker", "it believes this app's key "+t.cfg.Side.Identity.Kid())
	var user worker.User
	known := answer.status == http.StatusOK && json.Unmarshal(answer.body, &user) == nil && user.UserName != ""
	app, answer, err := t.quickest(ctx, t.cfg.Path)
	if err != nil {
		t.refused(err)
		return
	}
	if !t.judge(answer) {
		return
	}
	parts := []Part{{"resolve", t.resolve.Microseconds()}, {"connect", t.connect.Microseconds()}, {"discover", t.heard[t.service][0].after.Microseconds()}, {"grant", grant.Microseconds()}}
	who := "; the worker does not say who the person is"
	if known {
		warm, _, err := t.quickest(ctx, mePath)
		if err != nil {
			t.refused(err)
			return
		}
		// What the first request took longer than its like was the look-up, and the grant.
		parts = append(parts, Part{"relay", warm.Microseconds()}, Part{"worker identity", max(0, cold-warm-grant).Microseconds()}, Part{"app", max(0, app-warm).Microseconds()})
		who = " as " + user.UserName
		if t.user != nil && t.user.ID != user.ID {
			t.fail(t.name, fmt.Sprintf("the worker says the person is %s, the workspace here says %s", user.UserName, t.user.UserName), "Give both sides the same workspace")
			return
		}
	} else {
		parts = append(parts, Part{"relay and app", app.Microseconds()})
	}
	t.RoundTrip = parts
	t.ok(t.name, fmt.Sprintf("GET %s of %s answered %d in %v%s", t.cfg.Path, t.service, answer.status, app.Round(10*time.Microsecond), who))
}

// grant measures what it takes to seal the token to the worker's key.
func (t *trip) grant() time.Duration {
	begin := time.Now()
	_, _, _ = relay.SealGrant(t.cfg.Side.Identity, t.cfg.Name, t.heard[t.service][0].said, t.token, t.cfg.Now()) // the trip itself reports
	return time.Since(begin)
}

// warmUp lets the publisher connect and hear of a worker.
func (t *trip) warmUp(ctx context.Context) error {
	ctx, cancel := t.timeout(ctx)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		if known := t.transport.Stats().Services[t.service].Instances; known["ready"]+known["draining"] > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			t.fail(t.name, "the publisher did not hear of the worker", relay.CodeNoWorker.Info().Remedy)
			return ctx.Err()
		case <-poll.C:
		}
	}
}

type answer struct {
	status int
	body   []byte
	header http.Header
}

const maxAnswer = 64 << 10

func (t *trip) get(ctx context.Context, path string) (time.Duration, answer, error) {
	ctx, cancel := t.timeout(ctx)
	defer cancel()
	u, err := url.Parse("http://" + t.service + path)
	if err != nil || u.Host != t.service {
		return 0, answer{}, relay.NewError(relay.CodePathNotCanonical, "--path is not a path")
	}
	request := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{relay.HeaderAccessToken: {t.token.Reveal()}}}).WithContext(ctx)
	begin := time.Now()
	response, err := t.transport.RoundTrip(request)
	if err != nil {
		return 0, answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return time.Since(begin), answer{response.StatusCode, body, response.Header}, err
}

func (t *trip) quickest(ctx context.Context, path string) (time.Duration, answer, error) {
	var least time.Duration
	var last answer
	for range tries {
		took, a, err := t.get(ctx, path)
		if err != nil {
			return 0, a, err
		}
		if last = a; least == 0 || took < least {
			least = took
		}
	}
	return least, last, nil
}

// refused names what a failure of the relay most likely comes from.
func (t *trip) refused(err error) {
	if errors.Is(err, relay.CodeRefusedUnverified) {
		kid := t.cfg.Side.Identity.Kid()
		t.add(Check{
			Name: "trust of the worker", Verdict: Failed, Detail: relay.AsError(err).Error(), Facts: map[string]string{"code": string(relay.CodeRefusedUnverified)},
			Remedy: fmt.Sprintf("Put this app's public key %s under apps.%s into the trust file of service %s; obo init makes both sides' files. If it is there, look for the request id in the worker's log", kid, t.cfg.Name, t.service),
		})
		return
	}
	if errors.Is(err, relay.CodeNotFound) { // said by the worker itself
		t.warn(t.name, fmt.Sprintf("the relay works, but GET %s is answered %v", t.cfg.Path, err), "Name another --path: "+mePath+" if the worker has no middleware app")
		return
	}
	t.failError(t.name, err)
}

// judge looks at the app's answer, or at what the worker says in its place.
func (t *trip) judge(a answer) bool {
	var problem relay.Problem
	if a.header.Get("Content-Type") == "application/problem+json" && json.Unmarshal(a.body, &problem) == nil && problem.Code != "" {
		t.failError(t.name, problem.Err())
		return false
	}
	switch {
	case a.status >= http.StatusInternalServerError:
		t.fail(t.name, fmt.Sprintf("the app answered %d to GET %s", a.status, t.cfg.Path), "Look at the middleware app's log, or name another --path")
		return false
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		t.warn(t.name, fmt.Sprintf("the relay works, but the app answered %d to GET %s", a.status, t.cfg.Path), "The person may not do that, says the app: name another --path, or ask its owner")
		return false
	}
	return true
}

// app looks whether the middleware app beside a worker can be reached.
func (d *doctor) app(ctx context.Context) {
	defer d.skip("trust of apps", "whether they trust this service shows where they run: obo doctor with an app's kit, which also makes a round trip")
	if d.cfg.Forward == "" {
		return
	}
	ctx, cancel := d.timeout(ctx)
	defer cancel()
	u, err := url.Parse(d.cfg.Forward)
	if err == nil && u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"https": "443"}[u.Scheme]+map[string]string{"http": "80"}[u.Scheme])
	}
	if err != nil || tcp(ctx, u.Hostname(), u.Port()) != nil {
		d.fail("app", "nothing accepts connections where --forward (OBO_FORWARD, DATABRICKS_APP_PORT) says that the middleware app is", relay.CodeUpstreamDown.Info().Remedy)
		return
	}
	d.ok("app", "the middleware app accepts connections at "+u.Host)
}
