package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// startFault makes an error of what nats-server says when it cannot start.
func startFault(format string, v []any) error {
	text := line(format, v)
	var cause error
	for _, arg := range v {
		if err, ok := arg.(error); ok {
			cause = err
		}
	}
	// The monitoring listener's error has lost its cause; its text is all there is.
	if errors.Is(cause, syscall.EADDRINUSE) || strings.Contains(text, syscall.EADDRINUSE.Error()) {
		return &startError{"broker: " + text + ": another program listens there; stop it or choose another port", syscall.EADDRINUSE}
	}
	return &startError{"broker: " + text, cause}
}

// startError is nats-server's text with the cause that the text already tells.
type startError struct {
	text  string
	cause error
}

func (e *startError) Error() string { return e.text }
func (e *startError) Unwrap() error { return e.cause }

// storeWritable tries the JetStream directory, about which nats-server itself says little.
func storeWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return storeFault(dir, err)
	}
	probe, err := os.CreateTemp(dir, ".writable-*")
	if err != nil {
		return storeFault(dir, err)
	}
	if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
		return storeFault(dir, err)
	}
	return nil
}

func storeFault(dir string, err error) error {
	return fmt.Errorf("broker: the store directory %s is not writable: %w: choose another with jetstream.store_dir, or run without JetStream", filepath.Clean(dir), err)
}
