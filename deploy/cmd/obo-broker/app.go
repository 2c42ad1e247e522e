package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/obo-relay/obo-relay/deploy/broker"
)

// app is what --app-listen and --behind say; nil where there is no platform.
func (f flags) app() (*broker.App, error) {
	address := f.AppListen
	port := os.Getenv("DATABRICKS_APP_PORT")
	switch {
	case address == "off" || address == "auto" && port == "":
		if f.Behind != "" {
			return nil, errors.New("--behind (OBO_BEHIND): there is no app's port to take: DATABRICKS_APP_PORT is not set, or --app-listen (OBO_APP_LISTEN) is off")
		}
		return nil, nil
	case address == "auto":
		address = port
	}
	if !strings.Contains(address, ":") {
		address = ":" + address
	}
	if _, p, err := net.SplitHostPort(address); err != nil || p == "" {
		return nil, fmt.Errorf("--app-listen (OBO_APP_LISTEN) %q: want [HOST:]PORT, for example 8000, or auto, or off", f.AppListen)
	}
	app := &broker.App{Listen: address, Name: os.Getenv("DATABRICKS_APP_NAME")}
	if f.Behind == "" {
		if f.Command.Words() != nil {
			return nil, errors.New("--behind (OBO_BEHIND): the broker takes the app's port, so say where the app that it runs listens: --behind http://127.0.0.1:8001, say; or leave the port to the app with --app-listen off")
		}
		return app, nil
	}
	behind := f.Behind
	if !strings.Contains(behind, "://") {
		behind = "http://" + behind
	}
	u, err := url.Parse(behind)
	if err != nil || u.Scheme != "http" || u.Port() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil {
		return nil, errors.New("--behind (OBO_BEHIND): want the app's address, for example http://127.0.0.1:8001")
	}
	if _, p, _ := net.SplitHostPort(address); p == u.Port() {
		return nil, fmt.Errorf("--behind (OBO_BEHIND) names the port %s, which the broker takes: let the app listen on another", p)
	}
	app.Behind = u
	return app, nil
}

// childVariables tell a client which port is left to it, and where its NATS server is.
func childVariables(b *broker.Broker, app *broker.App, getenv func(string) string) []string {
	var vars []string
	if app != nil && app.Behind != nil {
		vars = append(vars, "DATABRICKS_APP_PORT="+app.Behind.Port())
	}
	if local := b.LocalURL(); local != "" && app != nil && getenv("OBO_NATS") == "" {
		vars = append(vars, "OBO_NATS="+local)
	}
	return vars
}
