package demo

import (
	"bytes"
	"context"
	"sync"
)

// logBuffer keeps what all parts log, to be searched.
type logBuffer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{} // closed and replaced at each line
}

func newLogBuffer() *logBuffer { return &logBuffer{changed: make(chan struct{})} }

// Write implements io.Writer.
func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
	return l.b.Write(p)
}

// await returns the log once it holds a text, which may be written a moment after an answer has left; or when ctx ends.
func (l *logBuffer) await(ctx context.Context, text string) []byte {
	for {
		l.mu.Lock()
		log, changed := bytes.Clone(l.b.Bytes()), l.changed
		l.mu.Unlock()
		if bytes.Contains(log, []byte(text)) {
			return log
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return log
		}
	}
}
