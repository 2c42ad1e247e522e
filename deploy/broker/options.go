package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// graceShare of the drain time passes between the notice to clients and closing the first of them.
const graceShare = 10

// options reads the configuration and puts this package's settings over it.
func (c Config) options() (*server.Options, error) {
	opts := &server.Options{}
	if err := c.process(opts); err != nil {
		return nil, err
	}
	if opts.Trace || opts.TraceVerbose {
		c.Log.Warn("trace in the configuration is ignored: it would log payloads")
	}
	opts.Trace, opts.TraceVerbose = false, false
	opts.Debug = c.Log.Enabled(context.Background(), slog.LevelDebug)
	// The log is set by this package and signals belong to the command; neither is the server's.
	opts.NoLog, opts.NoSigs = true, true
	opts.DisableJetStreamBanner = true // letters drawn over several lines of the log
	opts.LameDuckDuration = c.DrainTimeout
	opts.LameDuckGracePeriod = c.DrainTimeout / graceShare
	return opts, c.replacePorts(opts)
}

func (c Config) process(opts *server.Options) error {
	var err error
	if c.ConfigFile != "" {
		err = opts.ProcessConfigFile(c.ConfigFile)
	} else {
		err = opts.ProcessConfigString(c.ConfigText)
	}
	if err == nil {
		return nil
	}
	// nats-server returns warnings as an error too.
	var detail interface {
		error
		Warnings() []error
		Errors() []error
	}
	if !errors.As(err, &detail) {
		return c.fault(err)
	}
	for _, w := range detail.Warnings() {
		c.Log.Warn("configuration: " + w.Error())
	}
	var list []error
	for _, e := range detail.Errors() {
		list = append(list, c.fault(e))
	}
	return errors.Join(list...)
}

// fault names the file, which some of nats-server's errors do and others do not.
func (c Config) fault(err error) error {
	if c.ConfigFile == "" || strings.Contains(err.Error(), c.ConfigFile) {
		return fmt.Errorf("broker: configuration: %w", err)
	}
	return fmt.Errorf("broker: configuration %s: %w", c.ConfigFile, err)
}

func (c Config) replacePorts(opts *server.Options) error {
	if c.Port != 0 {
		opts.Port = c.Port
	}
	if c.WebSocketPort != 0 {
		if opts.Websocket.Port == 0 {
			return c.fault(fmt.Errorf("WebSocketPort is %d but there is no websocket block: add one, it also says whether TLS ends here", c.WebSocketPort))
		}
		opts.Websocket.Port = c.WebSocketPort
	}
	if c.App != nil {
		opts.Websocket = websocketOptions()
	}
	if c.MonitorPort != 0 {
		opts.HTTPPort = c.MonitorPort
		if opts.HTTPHost == "" {
			opts.HTTPHost = "127.0.0.1"
		}
	}
	return nil
}
