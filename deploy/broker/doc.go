// Package broker runs nats-server inside the process, from an ordinary nats-server.conf.
//
// It adds what a relay needs and takes away what would hurt one: the log goes through slog, one line an event and
// never a payload; message tracing cannot be switched on; faults name the file and line, or the address and the
// remedy; stopping gives clients notice, within the time that a platform allows a process.
//
//	b, err := broker.New(broker.Config{ConfigFile: "nats-server.conf", Log: slog.Default()})
//	if err != nil {
//		return err
//	}
//	return b.Run(ctx)
package broker
