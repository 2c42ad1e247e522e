package relay

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"sync"
)

// Sizes and numbers of PROTOCOL.md §7.
const (
	Version       = 1
	frameHeader   = 10
	frameTag      = 16
	saltSize      = 16
	MaxFrame      = 64 << 10 // plaintext bytes, if max_payload allows
	MaxHead       = 32 << 10 // bytes of JSON
	MinMaxPayload = 64 << 10 // smallest max_payload of a NATS server that obo works with
	frameReserve  = 16 << 10 // of max_payload, for grant, headers and framing
	controlSeq    = 1 << 63  // first seq of the control space
)

// FrameType is the second byte of a frame.
type FrameType byte

// The frame types.
const (
	FrameHead   FrameType = 1 // head, and the first bytes of the body
	FrameWhole  FrameType = 2 // head and the whole body
	FrameData   FrameType = 3
	FrameEnd    FrameType = 4
	FrameInform FrameType = 5 // a 1xx reply head
	FrameCredit FrameType = 6
	FrameCancel FrameType = 7
)

// The first byte of a reply payload.
const (
	replyUnsealed = 0
	replyFrame    = Version
	replySalted   = 2
)

func (t FrameType) control() bool { return t == FrameCredit || t == FrameCancel }
func (t FrameType) final() bool   { return t == FrameWhole || t == FrameEnd }

// FrameLimit is the largest plaintext of a frame on a server with that max_payload. A server that says that it takes less
// than it must refuses larger frames itself.
func FrameLimit(maxPayload int64) int {
	return int(min(MaxFrame, max(maxPayload, MinMaxPayload)-frameReserve))
}

// keySource derives the keys of the requests under one grant. The extract step of HKDF (RFC 5869 §2.2) is done once.
type keySource struct {
	prk      func() *[sha256.Size]byte // see Token for why it is a function
	gid      ID
	derivers sync.Pool // of *deriver: to set one up costs more than to use it
}

// deriver is an HMAC under the extracted key, and memory for what goes in and comes out.
type deriver struct {
	mac  hash.Hash
	info [len("obo/1 request") + 2*idBytes + saltSize + 1]byte
	key  [sha256.Size]byte
}

func newKeySource(secret []byte, gid ID) *keySource {
	prk, err := hkdf.Extract(sha256.New, secret, nil)
	if err != nil {
		panic(err) // only for key sizes that FIPS mode refuses; a secret has 32 bytes
	}
	k := &keySource{prk: func() *[sha256.Size]byte { return (*[sha256.Size]byte)(prk) }, gid: gid}
	k.derivers.New = func() any { return &deriver{mac: hmac.New(sha256.New, k.prk()[:])} }
	return k
}

// expand is the expand step of HKDF for one block of output (RFC 5869 §2.3): HMAC(PRK, info | 0x01).
func (d *deriver) expand(info []byte) []byte {
	d.mac.Reset()
	_, _ = d.mac.Write(append(info, 1)) // never fails
	return d.mac.Sum(d.key[:0])
}

// frameKey seals or opens the frames of one direction of one request. One goroutine at a time may use it.
type frameKey struct {
	aead  cipher.AEAD
	nonce [12]byte // 4 zero bytes and the seq
}

func (k *keySource) derive(label string, id ID, salt []byte) *frameKey {
	d := k.derivers.Get().(*deriver)
	defer k.derivers.Put(d)
	info := append(append(d.info[:0], label...), k.gid[:]...)
	info = append(append(info, id[:]...), salt...)
	block, err := aes.NewCipher(d.expand(info))
	clear(d.key[:])
	if err != nil {
		panic(err) // only for wrong key sizes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the right block size
	}
	return &frameKey{aead: aead}
}

func (k *keySource) request(id ID) *frameKey { return k.derive("obo/1 request", id, nil) }

func (k *keySource) reply(id ID, salt []byte) *frameKey { return k.derive("obo/1 reply", id, salt) }

// at is the nonce of a seq.
func (k *frameKey) at(seq uint64) []byte {
	binary.BigEndian.PutUint64(k.nonce[4:], seq)
	return k.nonce[:]
}

func newSalt() (salt [saltSize]byte) {
	_, _ = rand.Read(salt[:])
	return salt
}

// beginFrame starts a message in b, which is empty and large enough (see frameSize): room bytes in front of the frame for
// the caller to fill, the clear header, and then the plaintext, which the caller appends before sealFrame.
func beginFrame(b []byte, room int, t FrameType, seq uint64) []byte {
	b = append(b[:room], Version, byte(t))
	return binary.BigEndian.AppendUint64(b, seq)
}

func frameSize(room, plaintext int) int { return room + frameHeader + plaintext + frameTag }

// sealFrame encrypts in place the plaintext that was appended to what beginFrame began.
func sealFrame(k *frameKey, b []byte, room int) []byte {
	head := b[room : room+frameHeader]
	return k.aead.Seal(b[:room+frameHeader], k.at(binary.BigEndian.Uint64(head[2:])), b[room+frameHeader:], head)
}

// Frame is an opened frame.
type Frame struct {
	Type FrameType
	Seq  uint64
	Body []byte
}

// parseFrame reads the clear header and checks that type and seq space fit.
func parseFrame(b []byte) (t FrameType, seq uint64, err error) {
	if len(b) < frameHeader+frameTag || len(b) > frameHeader+MaxFrame+frameTag {
		return 0, 0, errors.New("frame: size")
	}
	if b[0] != Version {
		return 0, 0, errors.New("frame: version")
	}
	t, seq = FrameType(b[1]), binary.BigEndian.Uint64(b[2:])
	if t < FrameHead || t > FrameCancel || t.control() != (seq >= controlSeq) {
		return 0, 0, errors.New("frame: type")
	}
	return t, seq, nil
}

// openFrame parses and opens a frame in place: b holds the plaintext afterwards, or rubbish if it did not open.
func openFrame(k *frameKey, b []byte) (Frame, error) {
	t, seq, err := parseFrame(b)
	if err != nil {
		return Frame{}, err
	}
	plaintext, err := k.aead.Open(b[frameHeader:frameHeader], k.at(seq), b[frameHeader:], b[:frameHeader])
	if err != nil {
		return Frame{}, errors.New("frame: does not open")
	}
	return Frame{t, seq, plaintext}, nil
}

// UnsealedRefusal is the payload by which a worker answers a message that it cannot or may not open. It decides nothing.
func UnsealedRefusal(code Code) []byte { return append([]byte{replyUnsealed}, code...) }

// ParseUnsealedRefusal returns the code of an unsealed refusal; false for any other payload. A code that a worker may not
// send unsealed is CodeRefused.
func ParseUnsealedRefusal(b []byte) (Code, bool) {
	if len(b) == 0 || b[0] != replyUnsealed {
		return "", false
	}
	switch code := Code(b[1:]); code {
	case CodeClockSkew, CodeReplayFull, CodeGrantUnknown:
		return code, true
	}
	return CodeRefused, true
}
