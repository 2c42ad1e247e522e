// Package export sends the traces and metrics of a command out: over OTLP where the OTEL_* variables of OpenTelemetry's
// specification say so, and to Prometheus at an address of its own. Unless one of the two is asked for there are no
// providers, and nothing is observed.
//
// The variables may be meant for the app beside the command, which shares its environment. So a value that is of no use
// here is logged and passed over; it never keeps a command from starting.
package export
