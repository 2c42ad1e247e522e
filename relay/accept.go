package relay

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

// Patient returns a listener that waits where a process or its machine has no file descriptor left for another connection, and
// says once a minute what to do. net/http would say so each second, and not what to do.
func Patient(l net.Listener, log *slog.Logger) net.Listener {
	return &patient{l, log, rate.Sometimes{Interval: time.Minute}}
}

type patient struct {
	net.Listener
	log   *slog.Logger
	lines rate.Sometimes
}

// acceptPause is how long nobody looks whether a file descriptor has become free.
const acceptPause = 100 * time.Millisecond

func (p *patient) Accept() (net.Conn, error) {
	for {
		conn, err := p.Listener.Accept()
		if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
			return conn, err
		}
		p.lines.Do(func() {
			p.log.Error("new connections wait: there is no file descriptor left for them", "address", p.Addr().String(), "error", err,
				"remedy", "raise the limit of open files (ulimit -n), or have callers close connections that they do not use")
		})
		time.Sleep(acceptPause)
	}
}
