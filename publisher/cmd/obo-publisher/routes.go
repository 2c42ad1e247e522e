package main

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/obo-relay/obo-relay/relay"
)

// route is where one service is served.
type route struct {
	service  string
	address  string
	listener net.Listener
}

// parseRoutes reads --route and reports all faults at once. Without any it takes every service of the trust.
func parseRoutes(list []string, trust *relay.Trust) ([]*route, error) {
	var routes []*route
	var faults []error
	for _, text := range list {
		if text == "" { // an empty OBO_ROUTE
			continue
		}
		r, err := parseRoute(text)
		switch {
		case err != nil:
			faults = append(faults, err)
			continue
		case slices.ContainsFunc(routes, func(o *route) bool { return o.service == r.service }):
			faults = append(faults, fmt.Errorf("%s: service %s has another route already: keep one", routeFlag(text), r.service))
		}
		routes = append(routes, r)
	}
	if len(routes) == 0 && len(faults) == 0 && trust != nil {
		for _, service := range trust.Names(relay.RoleService) {
			routes = append(routes, &route{service: service, address: "127.0.0.1:0"})
		}
	}
	return routes, errors.Join(faults...)
}

// untrusted are the routes to services whose workers could not be believed.
func untrusted(routes []*route, trust *relay.Trust) error {
	var faults []error
	for _, r := range routes {
		if trust != nil && !trust.Knows(relay.RoleService, r.service) {
			faults = append(faults, fmt.Errorf("%s: the trust file names no service %s; it names %s: add the service's public key, or give the kit that belongs to it", routeFlag(r.service), r.service, strings.Join(trust.Names(relay.RoleService), ", ")))
		}
	}
	return errors.Join(faults...)
}

func routeFlag(text string) string { return "--route (OBO_ROUTE) " + strconv.Quote(text) }

// parseRoute reads SERVICE or SERVICE=127.0.0.1:PORT. Only loopback will do: whoever reaches the address is served.
func parseRoute(text string) (*route, error) {
	service, address, given := strings.Cut(text, "=")
	if !relay.ValidName(service) {
		return nil, fmt.Errorf("%s: want the name of a service, or SERVICE=127.0.0.1:PORT", routeFlag(text))
	}
	if !given {
		return &route{service: service, address: "127.0.0.1:0"}, nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%s: want SERVICE=127.0.0.1:PORT", routeFlag(text))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("%s: want a port from 1 to 65535; leave the address out for a free one", routeFlag(text))
	}
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%s: %s is no loopback address: only this machine may call, want 127.0.0.1:%s", routeFlag(text), strconv.Quote(host), port)
	}
	return &route{service: service, address: net.JoinHostPort(host, port)}, nil
}

// listen opens every route's address, or none.
func listen(routes []*route) error {
	var faults []error
	for _, r := range routes {
		var err error
		if r.listener, err = net.Listen("tcp", r.address); err != nil {
			remedy := "choose another address"
			if errors.Is(err, syscall.EADDRINUSE) {
				remedy = "another program listens there: stop it, choose another port, or leave the address out for a free one"
			}
			faults = append(faults, fmt.Errorf("--route (OBO_ROUTE) %s=%s: %w: %s", r.service, r.address, err, remedy))
		}
	}
	if len(faults) > 0 {
		closeAll(routes)
	}
	return errors.Join(faults...)
}

func closeAll(routes []*route) {
	for _, r := range routes {
		if r.listener != nil {
			_ = r.listener.Close() // nobody was served
		}
	}
}

// url is where the route is served.
func (r *route) url() string { return "http://" + r.listener.Addr().String() }

// variable is the name under which an app finds the URL.
func (r *route) variable() string { return relay.URLVariable(r.service) }
