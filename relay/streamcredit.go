package relay

import (
	"encoding/binary"
	"errors"
)

const creditSize = 17

func creditFrame(ack uint64, limit int64, resend bool) (FrameType, []byte) {
	b := make([]byte, 0, creditSize)
	b = binary.BigEndian.AppendUint64(b, ack)
	b = binary.BigEndian.AppendUint64(b, uint64(limit))
	var flags byte
	if resend {
		flags = 1
	}
	return FrameCredit, append(b, flags)
}

func parseCredit(b []byte) (ack uint64, limit int64, resend bool, err error) {
	if len(b) != creditSize || b[16] > 1 {
		return 0, 0, false, errors.New("credit: form")
	}
	limit = int64(binary.BigEndian.Uint64(b[8:]))
	if limit < 0 {
		return 0, 0, false, errors.New("credit: limit")
	}
	return binary.BigEndian.Uint64(b), limit, b[16] == 1, nil
}
