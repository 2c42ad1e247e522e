package bench

import (
	"net"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/obo-relay/obo-relay/deploy/relaytest"
	"github.com/obo-relay/obo-relay/publisher"
)

// BenchmarkFar is 5 MB bodies with 20 ms between publisher and broker, there and back: whether windows open soon enough.
func BenchmarkFar(b *testing.B) {
	target := httptest.NewServer(backend())
	b.Cleanup(target.Close)
	n := relaytest.New(b, httptest.NewRecorder().Body)
	quiet(n)
	f := &field{token: longToken("far", time.Now().Add(time.Hour)), client: target.Client()}
	near := n.URL
	relayed(b, n, target.URL) // its worker stays; its publisher is not used
	n.URL = delayed(b, near, 10*time.Millisecond)
	sidecar, err := publisher.NewSidecar(publisher.SidecarConfig{Transport: n.Publisher(nil), Service: relaytest.Service, Log: n.Log})
	relaytest.Must(b, err)
	base := serve(b, sidecar)
	relaytest.Must(b, f.echo(base, 1<<10))
	b.SetBytes(5e6)
	for b.Loop() {
		relaytest.Must(b, f.echo(base, 5e6))
	}
}

// delayed is a TCP proxy that holds each byte back for a while, and lets any number be on their way.
func delayed(b *testing.B, target string, by time.Duration) string {
	b.Helper()
	u, err := url.Parse(target)
	relaytest.Must(b, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	relaytest.Must(b, err)
	var wait sync.WaitGroup
	b.Cleanup(func() { _ = l.Close(); wait.Wait() })
	wait.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", u.Host)
			if err != nil {
				_ = in.Close()
				continue
			}
			wait.Go(func() { hold(in, out, by) })
			wait.Go(func() { hold(out, in, by) })
		}
	})
	return "nats://" + l.Addr().String()
}

type late struct {
	at    time.Time
	bytes []byte
}

func hold(from, to net.Conn, by time.Duration) {
	queue := make(chan late, 1<<16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for x := range queue {
			timer := time.NewTimer(time.Until(x.at))
			<-timer.C
			_, _ = to.Write(x.bytes) // its fault shows at the reader
		}
		_ = to.Close()
	}()
	for {
		buf := make([]byte, 64<<10)
		n, err := from.Read(buf)
		if n > 0 {
			queue <- late{time.Now().Add(by), buf[:n]}
		}
		if err != nil {
			break
		}
	}
	close(queue)
	<-done
	_ = from.Close()
}
