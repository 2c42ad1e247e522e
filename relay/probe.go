package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/obo-relay/obo-relay/relay/brokerapp"
)

// ConnectOnce connects as Connect does, but tries once and does not come back: for those who want to know whether it can be
// done, and how long it lasts.
func ConnectOnce(c ConnectConfig, more ...nats.Option) (*nats.Conn, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Log, c.OnUp, c.OnDown, c.OnDenied, c.OnSlow = nil, nil, nil, nil, nil
	c = c.withDefaults()
	url, door := c.URL, (*brokerapp.Door)(nil)
	if brokerapp.Is(c.URL) {
		var err error
		if door, err = c.Door(); err != nil {
			return nil, err
		}
		url = "nats://" + door.Name()
	}
	opts, err := c.options(door)
	if err != nil {
		return nil, err
	}
	// Closed while it connects it is over, too.
	opts = append(opts, nats.RetryOnFailedConnect(false), nats.NoReconnect())
	return nats.Connect(url, append(opts, more...)...)
}

// brokerLooks is how often each address is looked at. A proxy that hands out connections in turn or at random shows two
// servers in so many, or all but certainly.
const brokerLooks = 6

// CheckBrokers connects to each address several times. Servers that do not know of each other are an error: whoever is at
// one does not find those at the other. Where no server can be reached there is nothing to say.
func CheckBrokers(ctx context.Context, c ConnectConfig) error {
	var ids []string
	clusters := map[string]bool{}
	for address := range strings.SplitSeq(c.URL, ",") {
		one := c
		one.URL = strings.TrimSpace(address)
		for range brokerLooks {
			if ctx.Err() != nil {
				return nil
			}
			nc, err := ConnectOnce(one)
			if err != nil {
				break
			}
			id := nc.ConnectedServerId()
			clusters[nc.ConnectedClusterName()] = true
			nc.Close()
			if id != "" && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	if len(ids) < 2 || len(clusters) == 1 && !clusters[""] {
		return nil
	}
	slices.Sort(ids)
	return fmt.Errorf("%d NATS servers that do not know of each other answer at %s (%s): run one, which for a broker app means one instance, or join them to a cluster; whoever is connected to one does not find those at the other", len(ids), redactURLs(c.URL), strings.Join(ids, ", "))
}
