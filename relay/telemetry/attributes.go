package telemetry

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/obo-relay/obo-relay/relay"
)

// Attributes of the relay's own.
const (
	ServiceKey  = attribute.Key("obo.service")  // the service that is called
	AppKey      = attribute.Key("obo.app")      // the app that calls
	InstanceKey = attribute.Key("obo.instance") // the worker process
	ViaKey      = attribute.Key("obo.via")      // "relay", or "front" for the worker's front door
	CodeKey     = attribute.Key("obo.code")     // of the relay's table, or CodeOK
	OutcomeKey  = attribute.Key("obo.outcome")  // done, not_delivered, not_started or unknown
	StateKey    = attribute.Key("obo.state")    // of worker processes
)

// CodeOK stands for a reply of the handler's own, whatever its status.
const CodeOK = "ok"

// codeOther stands for codes that are not in the relay's table: the other side could make up any number of them.
const codeOther = "other"

// Code is the value of CodeKey; none is a reply of the handler's own.
func Code(c relay.Code) string {
	if c == "" {
		return CodeOK
	}
	return FaultCode(c)
}

// FaultCode is the value of CodeKey for what has failed.
func FaultCode(c relay.Code) string {
	if !c.Known() {
		return codeOther
	}
	return string(c)
}

// Outcome is the value of OutcomeKey. e is nil for a reply of the handler's own.
func Outcome(e *relay.Error) string {
	switch {
	case e == nil:
		return string(relay.Done)
	case e.Outcome != "":
		return string(e.Outcome)
	}
	return string(e.Code.Info().Outcome)
}

// Method is an attribute that callers cannot fill at will.
func Method(m string) attribute.KeyValue {
	for _, known := range methods {
		if m == known {
			return semconv.HTTPRequestMethodKey.String(known) // m is a part of a whole head, which a metric would keep for ever
		}
	}
	return semconv.HTTPRequestMethodOther
}

var methods = [...]string{
	http.MethodConnect, http.MethodDelete, http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPatch, http.MethodPost,
	http.MethodPut, http.MethodTrace,
}

// path is the attribute of a path that the relay would take; of any other nothing is said.
func path(p string) []attribute.KeyValue {
	if relay.CheckPath(p) != nil {
		return nil
	}
	return []attribute.KeyValue{semconv.URLPath(p)}
}

// Messaging are the attributes of a message over NATS.
func Messaging(operation attribute.KeyValue, name, subject string, id relay.ID) []attribute.KeyValue {
	return []attribute.KeyValue{
		semconv.MessagingSystemKey.String("nats"), operation, semconv.MessagingOperationName(name),
		semconv.MessagingDestinationName(subject), semconv.MessagingMessageID(id.String()),
	}
}
