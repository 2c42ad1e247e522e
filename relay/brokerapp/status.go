package brokerapp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// StatusTypeName is the type constant of Status.
const StatusTypeName = "obo.v1.broker"

// Status is what a broker app tells about itself at Path.
type Status struct {
	Type        string    `json:"type"`
	ServerID    string    `json:"server_id"`
	Version     string    `json:"version"` // of the NATS server
	Started     time.Time `json:"started"`
	Connections int       `json:"connections"`
}

// Status asks the broker app which server it is.
func (d *Door) Status(ctx context.Context) (Status, error) {
	var status Status
	err := d.enter(ctx, func(at *url.URL, header http.Header) (*http.Response, error) {
		header.Set("Accept", "application/json")
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			return nil, err
		}
		request.Header = header
		response, err := d.client.Do(request)
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return response, nil
		}
		body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		if err == nil && (json.Unmarshal(body, &status) != nil || status.Type != StatusTypeName || status.ServerID == "") {
			err = errors.New("what answers is no broker app: it must run obo-broker")
		}
		return nil, err
	})
	return status, err
}

// watchEvery is how often Watch looks.
const watchEvery = 20 * time.Second

// Watch warns when two servers answer at the door: instances of a broker app do not know each other, and whoever is
// connected to one does not reach those at the other. connected is the id of the server that this process is connected to,
// empty if none. Watch returns when ctx ends.
//
// Another server's answer counts when there is a second one later, with the connection still standing: a single one may be
// a new deployment that takes the old one's place.
func (d *Door) Watch(ctx context.Context, connected func() string) {
	d.watch(ctx, connected, watchEvery)
}

func (d *Door) watch(ctx context.Context, connected func() string, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	suspect, at, told := 0, "", ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		mine := connected()
		if mine != at {
			suspect, at = 0, mine
		}
		if mine == "" {
			continue
		}
		call, cancel := context.WithTimeout(ctx, DialTimeout)
		status, err := d.Status(call)
		cancel()
		if err != nil || status.ServerID == mine || connected() != mine {
			continue
		}
		if suspect++; suspect < 2 || told == mine {
			continue
		}
		told = mine
		d.cfg.Log.Error(fmt.Sprintf("two NATS servers answer at %s, and do not know each other: whoever is connected to one does not reach those at the other; let the broker app run as exactly one instance (compute_min_instances and compute_max_instances: 1), and stop a second broker", d.Name()),
			"connected_to", mine, "other", status.ServerID)
	}
}
