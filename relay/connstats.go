package relay

// ConnStats are the counters of a connection to NATS.
type ConnStats struct {
	Connected                                  bool
	Reconnects                                 uint64
	SlowConsumers                              uint64 // times that messages were dropped because this process was too slow
	MessagesIn, MessagesOut, BytesIn, BytesOut uint64
}

// Stats reads the counters, which go on where another connection takes the place of one that is over. nats.go does not count slow
// consumers: see ConnectConfig.OnSlow.
func (k *Conn) Stats(slow uint64) ConnStats {
	k.mu.Lock()
	defer k.mu.Unlock()
	sum := k.past
	sum.Connected, sum.SlowConsumers = k.NATS().IsConnected(), slow
	k.count(&sum)
	return sum
}

// count adds what the connection of this moment has counted; the caller holds mu.
func (k *Conn) count(sum *ConnStats) {
	s := k.NATS().Stats()
	sum.Reconnects += s.Reconnects
	sum.MessagesIn += s.InMsgs
	sum.MessagesOut += s.OutMsgs
	sum.BytesIn += s.InBytes
	sum.BytesOut += s.OutBytes
}
