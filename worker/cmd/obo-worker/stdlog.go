package main

import (
	stdlog "log"
	"log/slog"

	"github.com/obo-relay/obo-relay/relay"
)

// tameStdlog has what the standard library logs by itself go to the log, up to the first quotation: net/http's client quotes
// what an app sent out of turn, and that is most often a part of a reply.
func tameStdlog(log *slog.Logger) {
	stdlog.SetFlags(0)
	stdlog.SetOutput(unquoted{log})
}

type unquoted struct{ log *slog.Logger }

func (u unquoted) Write(p []byte) (int, error) {
	u.log.Warn("standard library: " + relay.Unquoted(string(p)))
	return len(p), nil
}
