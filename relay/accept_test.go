package relay

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// scarce is a listener of a process at its limit of open files until the time.
type scarce struct {
	net.Listener
	until time.Time
}

func (s *scarce) Accept() (net.Conn, error) {
	if time.Now().Before(s.until) {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return nil, net.ErrClosed
}

func (s *scarce) Addr() net.Addr { return &net.TCPAddr{Port: 9100} }

// At the limit of open files a listener waits, says so once a minute with the remedy, and goes on when there is room.
func TestAcceptWaitsForFileDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		began, short := time.Now(), 150*time.Second
		l := Patient(&scarce{until: began.Add(short)}, slog.New(slog.NewTextHandler(&log, nil)))
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v, want what the listener says when there is room", err)
		}
		if waited := time.Since(began); waited < short || waited > short+acceptPause {
			t.Errorf("went on after %v, want %v", waited, short)
		}
		if n := strings.Count(log.String(), "remedy=\"raise the limit of open files"); n != 3 || strings.Count(log.String(), "\n") != n {
			t.Errorf("logged in %v, want three lines with a remedy:\n%s", short, &log)
		}
	})
}
