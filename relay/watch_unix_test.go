//go:build unix

package relay

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// What comes from a pipe comes once. To read it again would wait for a writer for ever, and nothing could end that.
func TestPipesAreNotWatched(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "kit")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	read := false
	side := &Side{watched: []watchedFile{{what: "kit", path: pipe, read: func(path string) ([]byte, error) {
		read = true
		return ReadSecretFile(path)
	}}}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		side.Watch(ctx, time.Hour, slog.New(slog.NewTextHandler(&log, nil)), Changes{})
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("Watch waits for a writer")
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = w.Close()
		<-done
	}
	if read || bytes.Contains(log.Bytes(), []byte("level=ERROR")) {
		t.Errorf("the pipe was read again: %s", &log)
	}
}
