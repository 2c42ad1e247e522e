package relaytest

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is how long tests wait for what must happen. It is far above what anything takes.
const Patience = 20 * time.Second

// Log collects what the parts log, one line an event.
type Log struct {
	mu   sync.Mutex
	b    bytes.Buffer
	grew chan struct{} // closed and replaced at each write
}

// Write adds to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grew != nil {
		close(l.grew)
		l.grew = nil
	}
	return l.b.Write(p)
}

// String is the log so far.
func (l *Log) String() string {
	s, _ := l.read()
	return s
}

func (l *Log) read() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.grew == nil {
		l.grew = make(chan struct{})
	}
	return l.b.String(), l.grew
}

// Wait waits for a line that holds all the parts, and returns it.
func (l *Log) Wait(tb testing.TB, parts ...string) string {
	tb.Helper()
	return l.WaitTimes(tb, 1, parts...)
}

// WaitTimes waits for the n-th such line.
func (l *Log) WaitTimes(tb testing.TB, n int, parts ...string) string {
	tb.Helper()
	timeout := time.After(Patience)
	for {
		text, grew := l.read()
		if lines := linesWith(text, parts); len(lines) >= n {
			return lines[n-1]
		}
		select {
		case <-grew:
		case <-timeout:
			tb.Fatalf("no line of the log holds %q:\n%s", parts, text)
		}
	}
}

func linesWith(text string, parts []string) (found []string) {
	for line := range strings.Lines(text) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			found = append(found, line)
		}
	}
	return found
}

// Recv receives from a channel what must come.
func Recv[T any](tb testing.TB, c <-chan T, what string) (v T) {
	tb.Helper()
	select {
	case v = <-c:
	case <-time.After(Patience):
		tb.Fatalf("waited %v for %s", Patience, what)
	}
	return v
}
