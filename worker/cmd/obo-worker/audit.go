package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/obo-relay/obo-relay/relay"
	"github.com/obo-relay/obo-relay/worker"
)

// auditing is where audit records go.
type auditing struct {
	worker.Auditor // nil: nowhere
	file           *worker.AuditFile
	stream         *worker.AuditStream
}

// audit opens what --audit and --audit-stream name.
func (f guardFlags) audit(service string, side *relay.Side, stdout io.Writer, log *slog.Logger) (*auditing, error) {
	a := &auditing{}
	var to []worker.Auditor
	var faults []error
	var err error
	switch f.Audit {
	case "":
	case "-":
		to = append(to, worker.AuditTo(stdout))
	default:
		if a.file, err = worker.NewAuditFile(f.Audit); err != nil {
			faults = append(faults, fmt.Errorf("--audit (OBO_AUDIT): %w", err))
		} else {
			to = append(to, a.file)
		}
	}
	// What is wrong with NATS itself is reported with the worker's own connection.
	if f.AuditStream != "" && side.Connect.Validate() == nil {
		a.stream, err = worker.NewAuditStream(worker.AuditStreamConfig{NATS: side.Connect, Subject: f.AuditStream, Service: service, Prefix: side.Prefix, Log: log})
		if err != nil {
			faults = append(faults, fmt.Errorf("--audit-stream (OBO_AUDIT_STREAM): %w", err))
		} else {
			to = append(to, a.stream)
		}
	}
	switch len(to) {
	case 0:
	case 1:
		a.Auditor = to[0]
	default:
		a.Auditor = worker.Auditors(to...)
	}
	return a, errors.Join(faults...)
}

// reopen opens the file anew at each SIGHUP until ctx ends.
func (a *auditing) reopen(ctx context.Context, log *slog.Logger) {
	if a.file == nil {
		return
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			if err := a.file.Reopen(); err != nil {
				log.Error("the audit file cannot be opened anew", "error", err)
				continue
			}
			log.Info("audit file opened anew")
		}
	}
}

func (a *auditing) close() {
	if a.file != nil {
		_ = a.file.Close() // each record is written already
	}
	if a.stream != nil {
		a.stream.Close()
	}
}
