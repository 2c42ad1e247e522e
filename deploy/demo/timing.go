package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/obo-relay/obo-relay/relay"
)

// leg is a part of a request's way and how long it took.
type leg struct {
	name string
	took time.Duration
}

// legs splits the time between a caller's first and last moment. Each moment is measured and has to follow from the one
// before it, so the legs add up to the whole.
func (m marks) legs(begin, end time.Time) ([]leg, error) {
	// The publisher reads its clock last when it has made the grant and writes the head; the worker reads its own
	// first when the message has come.
	var issued, arrived time.Time
	for _, t := range m.publisher {
		if t.Before(m.lookupBegin) {
			issued = t
		}
	}
	for _, t := range slices.Backward(m.worker) {
		if !t.Before(issued) && t.Before(m.lookupBegin) {
			arrived = t
		}
	}
	points := []struct {
		name string
		end  time.Time
	}{
		{"sidecar in: token sealed", issued},
		{"NATS out", arrived},
		{"worker: open, check, burn the id", m.lookupBegin},
		{"worker: look-up of the person", m.lookupEnd},
		{"middleware app, over HTTP", m.handleEnd},
		{"reply sealed, NATS back, opened", m.respond},
		{"sidecar out", end},
	}
	var list []leg
	last := begin
	for _, p := range points {
		if p.end.IsZero() || p.end.Before(last) {
			return nil, fmt.Errorf("the moment after %q is missing or out of order", p.name)
		}
		list = append(list, leg{p.name, p.end.Sub(last)})
		last = p.end
	}
	return list, nil
}

func total(list []leg) time.Duration {
	var sum time.Duration
	for _, l := range list {
		sum += l.took
	}
	return sum
}

// timed makes one request through the sidecar and returns its legs, and how long its caller waited.
func (s *Stage) timed(ctx context.Context, token string) ([]leg, time.Duration, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Sidecar+"/hello", nil)
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set(relay.HeaderAccessToken, token)
	s.probe.begin()
	begin := time.Now()
	resp, err := s.client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	end := time.Now()
	_ = resp.Body.Close() // read whole
	m := s.probe.end()
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("the middleware app's answer was %s", resp.Status)
	}
	list, err := m.legs(begin, end)
	return list, end.Sub(begin), err
}

// median returns the request in the middle, by total time, of n.
func (s *Stage) median(ctx context.Context, token string, n int) ([]leg, error) {
	var all [][]leg
	var faults []error
	for range n {
		list, _, err := s.timed(ctx, token)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		all = append(all, list)
	}
	if len(all) == 0 {
		return nil, errors.Join(faults...)
	}
	slices.SortFunc(all, func(a, b []leg) int { return int(total(a) - total(b)) })
	return all[len(all)/2], nil
}
