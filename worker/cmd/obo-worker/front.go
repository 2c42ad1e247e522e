package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/obo-relay/obo-relay/worker"
)

// frontDoor is a front door and where it listens.
type frontDoor struct {
	front    *worker.Front
	listener net.Listener
}

// frontAddress is what --front says; empty without it.
func (f flags) frontAddress() (string, error) {
	address := f.Front
	if address == "" {
		return "", nil
	}
	if address == "auto" {
		if address = appPort(); address == "" {
			return "", errors.New("--front (OBO_FRONT): auto is the port that the platform gives an app in DATABRICKS_APP_PORT, which is not set: name one, for example :8000")
		}
	}
	if !strings.Contains(address, ":") {
		address = ":" + address
	}
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return "", fmt.Errorf("--front (OBO_FRONT): %q: want [HOST]:PORT, for example :8000, or auto", f.Front)
	}
	if f.Forward == "" {
		return "", errors.New("--front (OBO_FRONT): the worker takes the app's port, so say where the app itself listens: --forward http://127.0.0.1:8001, say")
	}
	return address, nil
}

// openFront starts to listen for the front door; nil without --front.
func (f flags) openFront(w *worker.Worker, o *observing) (*frontDoor, error) {
	address, err := f.frontAddress()
	if err != nil || address == "" {
		return nil, err
	}
	app, err := url.Parse(f.upstream())
	if err != nil { // checked with the handler
		return nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	own, _ := net.LookupPort("tcp", port) // what is none is a fault of Listen's
	if its, err := net.LookupPort("tcp", cmp.Or(app.Port(), app.Scheme)); err == nil && own == its {
		return nil, fmt.Errorf("--front (OBO_FRONT) and --forward (OBO_FORWARD) name the same port %s: let the app listen on another", port)
	}
	front, err := worker.NewFront(w, app, o.upstream()...)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--front (OBO_FRONT): %w: stop what listens there, perhaps the app, or choose another port", err)
	}
	return &frontDoor{front, listener}, nil
}

// run serves until ctx ends; without a front door it only waits.
func (d *frontDoor) run(ctx context.Context) error {
	if d == nil {
		<-ctx.Done()
		return nil
	}
	return d.front.Serve(ctx, d.listener)
}
