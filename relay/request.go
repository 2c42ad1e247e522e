package relay

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// GrantHash is SHA-256 of a sealed grant's exact bytes. A worker keeps opened grants under it, and a request may refer by it
// to a grant that the worker has opened before (PROTOCOL.md §7).
type GrantHash [sha256.Size]byte

// HashGrant hashes a sealed grant.
func HashGrant(compact []byte) GrantHash { return sha256.Sum256(compact) }

// SplitRequest parts the payload of a req message into the sealed grant, which is nil where there is only its hash, that
// hash, and frame 0.
func SplitRequest(b []byte) (sealed []byte, hash GrantHash, frame []byte, err error) {
	if len(b) < 2 {
		return nil, hash, nil, errors.New("too short")
	}
	n, rest := int(binary.BigEndian.Uint16(b)), b[2:]
	if n == 0 {
		if len(rest) < len(hash) {
			return nil, hash, nil, errors.New("too short for the hash of a grant")
		}
		return nil, GrantHash(rest), rest[len(hash):], nil
	}
	if n > MaxGrant || n > len(rest) {
		return nil, hash, nil, errors.New("the grant's length does not fit")
	}
	sealed, frame = rest[:n], rest[n:]
	return sealed, HashGrant(sealed), frame, nil
}

// grantRoom is the size of what stands in front of frame 0: the grant, or a hash in its place.
func grantRoom(grant []byte, known *GrantHash) int {
	if known != nil {
		return 2 + len(known)
	}
	return 2 + len(grant)
}

// putGrant fills that room.
func putGrant(b, grant []byte, known *GrantHash) {
	if known != nil {
		clear(b[:2]) // the length; a frame may have been in this memory before
		copy(b[2:], known[:])
		return
	}
	binary.BigEndian.PutUint16(b, uint16(len(grant)))
	copy(b[2:], grant)
}

// withGrant is a payload that held a hash, with the grant itself before the same frame.
func withGrant(payload, grant []byte) []byte {
	frame := payload[grantRoom(nil, new(GrantHash)):]
	b := make([]byte, grantRoom(grant, nil), grantRoom(grant, nil)+len(frame))
	putGrant(b, grant, nil)
	return append(b, frame...)
}
