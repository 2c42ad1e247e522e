// Package telemetry is what the traces and metrics of both sides have in common: names, spans of HTTP servers and clients,
// the instruments of a NATS connection. It uses OpenTelemetry's API alone; package export has the SDK.
//
// Names are those of OpenTelemetry's semantic conventions where there is one, and obo.* otherwise. No token, query, header
// value, body or person is ever an attribute; a path is one of spans, and never of metrics.
package telemetry
