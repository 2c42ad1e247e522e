package main

import (
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// A server with a certificate begins with the handshake, whatever the scheme of its URL is; over WebSocket the URL says it.
func TestInitTellsOfTLS(t *testing.T) {
	t.Parallel()
	for url, flag := range map[string]bool{"nats://127.0.0.1:4222": true, "tls://127.0.0.1:4222": true, "wss://127.0.0.1:8443": false} {
		var stdout, stderr strings.Builder
		args := []string{"init", "--dir", filepath.Join(t.TempDir(), "relay"), "--app", "ui", "--service", "middleware", "--nats", url,
			"--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-ca-file", "/ca.pem"}
		if code := run(t.Context(), args, nil, &stdout, &stderr); code != 0 {
			t.Errorf("%s: %d %s", url, code, &stderr)
		}
		for line := range strings.Lines(stdout.String()) {
			client := strings.HasPrefix(line, "  obo-worker ") || strings.HasPrefix(line, "  obo-publisher ") || strings.Contains(line, "obo call ")
			if client && (strings.Contains(line, " --nats-tls-first") != flag || !strings.Contains(line, " --nats-ca-file /ca.pem")) {
				t.Errorf("%s: %s", url, line)
			}
		}
	}
	var stderr strings.Builder
	args := []string{"init", "--dir", t.TempDir(), "--app", "ui", "--service", "middleware", "--nats", "ws://127.0.0.1:8080", "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"}
	if code := run(t.Context(), args, nil, io.Discard, &stderr); code != 1 || !strings.Contains(stderr.String(), "wss") {
		t.Errorf("a ws URL of a server with a certificate: %d %s", code, &stderr)
	}
}
