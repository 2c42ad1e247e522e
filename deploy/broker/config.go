package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Config says what to serve. Exactly one of ConfigFile and ConfigText is set.
type Config struct {
	// ConfigFile is the path of a nats-server.conf.
	ConfigFile string
	// ConfigText is the content of a nats-server.conf, for a server that has no file.
	ConfigText string
	// Port replaces the configured client port; -1 takes a free one. Defaults to the configuration's.
	Port int
	// WebSocketPort replaces the port of the configured websocket block; -1 takes a free one. Defaults to the
	// configuration's.
	WebSocketPort int
	// App serves the broker as an app of a platform. NATS over WebSocket is there then, and nowhere else. Defaults to
	// none.
	App *App
	// MonitorPort serves nats-server's monitoring pages (/varz, /connz, /healthz) over HTTP, on loopback unless the
	// configuration names a host; -1 takes a free one. The pages have no access control. Defaults to the
	// configuration's.
	MonitorPort int
	// DrainTimeout is how long clients are given to leave when the broker stops; they are closed one after the
	// other within it. It replaces the configuration's lame_duck_duration, whose minimum of 30 s is more than a
	// platform waits before it kills. Defaults to 5 s.
	DrainTimeout time.Duration
	// Log receives the server's log. Its debug level switches on the server's. Defaults to slog.Default().
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 5 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.App != nil {
		app := c.App.withDefaults()
		c.App = &app
	}
	return c
}

// validate reports every fault at once.
func (c Config) validate() error {
	var list []error
	if (c.ConfigFile == "") == (c.ConfigText == "") {
		list = append(list, errors.New("broker: want exactly one of ConfigFile and ConfigText"))
	}
	for _, p := range []struct {
		field string
		port  int
	}{{"Port", c.Port}, {"WebSocketPort", c.WebSocketPort}, {"MonitorPort", c.MonitorPort}} {
		if p.port < -1 || p.port > 65535 {
			list = append(list, fmt.Errorf("broker: %s %d: want 1 to 65535, or -1 for a free one", p.field, p.port))
		}
	}
	if c.App != nil && c.WebSocketPort != 0 {
		list = append(list, errors.New("broker: WebSocketPort beside App: the app's port is where WebSockets go"))
	}
	if c.DrainTimeout < 0 {
		list = append(list, fmt.Errorf("broker: DrainTimeout %v: want a positive duration", c.DrainTimeout))
	}
	return errors.Join(list...)
}
