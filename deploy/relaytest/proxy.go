package relaytest

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Proxy stands between a NATS client and the broker as plain TCP, to cut connections as networks and WebSocket proxies do.
type Proxy struct {
	URL    string
	target string

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
	made   int // connections let through so far
	wg     sync.WaitGroup
}

// Proxy starts a proxy to the broker.
func (n *Net) Proxy() *Proxy {
	n.tb.Helper()
	return newProxy(n.tb, n.URL)
}

func newProxy(tb testing.TB, target string) *Proxy {
	tb.Helper()
	address, err := url.Parse(target)
	Must(tb, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	Must(tb, err)
	p := &Proxy{URL: "nats://" + listener.Addr().String(), target: address.Host, conns: map[net.Conn]bool{}}
	p.wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.serve(client)
		}
	})
	tb.Cleanup(func() {
		p.Kill()
		_ = listener.Close()
		p.wg.Wait()
	})
	return p
}

func (p *Proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.target)
	if err != nil || !p.add(client, server) {
		_ = client.Close()
		if err == nil {
			_ = server.Close()
		}
		return
	}
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		p.wg.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			p.drop(client, server)
		})
	}
}

func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.made++
	for _, c := range conns {
		p.conns[c] = true
	}
	return true
}

func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
		_ = c.Close()
	}
}

// Cut closes all connections, at whatever byte they are. New ones are let through.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// Kill closes all connections and lets none through until Revive: the process behind it is dead to the broker.
func (p *Proxy) Kill() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Cut()
}

// Revive lets connections through again.
func (p *Proxy) Revive() {
	p.mu.Lock()
	p.closed = false
	p.mu.Unlock()
}

// Made is how many connections were let through.
func (p *Proxy) Made() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made
}
