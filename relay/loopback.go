package relay

import (
	"net"
	"net/netip"
	"strings"
)

// Loopback reports whether a host name or address, without a port, is this machine's own by itself, without asking DNS.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Zone() == "" && ip.Unmap().IsLoopback()
}

// LoopbackHost is Loopback for a Host header or an address: a port is allowed, and brackets stand around an IPv6 address and
// nothing else (RFC 3986, section 3.2.2).
func LoopbackHost(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil { // no port
		name, _, err = net.SplitHostPort(host + ":")
	}
	return err == nil && strings.Contains(name, ":") == strings.HasPrefix(host, "[") && Loopback(name)
}
