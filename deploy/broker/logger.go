package broker

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// logger hands nats-server's log to slog. A fatal error does not end the process: it goes to failed, and whoever
// runs the server stops it.
type logger struct {
	log    *slog.Logger
	failed chan<- error
}

var _ server.Logger = (*logger)(nil)

// payload matches where nats-server quotes what a client sent that did not parse. Those bytes can be a payload.
var payload = regexp.MustCompile(`(?s)(proto=|snip: |Parse Error: |Bad or Missing [A-Za-z ]*: |larger then TotalSize: ).*`)

func (l *logger) Noticef(format string, v ...any) { l.log.Info(line(format, v)) }
func (l *logger) Warnf(format string, v ...any) {
	if strings.HasPrefix(format, "Websocket not configured with TLS") { // as no_tls says, for a proxy in front
		l.log.Info("WebSockets without TLS: it is to end at a proxy in front")
		return
	}
	l.log.Warn(line(format, v))
}
func (l *logger) Errorf(format string, v ...any) { l.log.Error(line(format, v)) }
func (l *logger) Debugf(format string, v ...any) { l.log.Debug(line(format, v)) }

// Tracef drops the line: it holds payloads.
func (l *logger) Tracef(string, ...any) {}

// Fatalf keeps the first error; those that follow are its consequences.
func (l *logger) Fatalf(format string, v ...any) {
	select {
	case l.failed <- startFault(format, v):
	default:
	}
}

// line is one line of text without what a client sent.
func line(format string, v []any) string {
	text := payload.ReplaceAllString(fmt.Sprintf(format, v...), "${1}(not logged)")
	return strings.TrimSpace(strings.NewReplacer("\n", " ", "\r", " ").Replace(text))
}
