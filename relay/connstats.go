package relay

import "github.com/nats-io/nats.go"

// ConnStats are the counters of a NATS connection.
type ConnStats struct {
	Connected                                  bool
	Reconnects                                 uint64
	SlowConsumers                              uint64 // times that messages were dropped because this process was too slow
	MessagesIn, MessagesOut, BytesIn, BytesOut uint64
}

// ConnStatsOf reads them. nats.go does not count slow consumers: see ConnectConfig.OnSlow.
func ConnStatsOf(nc *nats.Conn, slow uint64) ConnStats {
	s := nc.Stats()
	return ConnStats{nc.IsConnected(), s.Reconnects, slow, s.InMsgs, s.OutMsgs, s.InBytes, s.OutBytes}
}
