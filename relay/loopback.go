package relay

import (
	"net"
	"net/netip"
	"strings"
)

// Loopback reports whether a host name or address, without a port, is this machine's own by itself, without asking DNS.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// LoopbackHost is Loopback for a Host header or an address: a port and brackets are allowed.
func LoopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return Loopback(h)
	}
	return Loopback(strings.Trim(host, "[]"))
}
