package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// A script is frames that a malicious peer, who has the keys, seals: each is its type, a seq, the length of its body, and
// the body.
func scriptFrame(t FrameType, seq uint64, body string) []byte {
	b := []byte{byte(t)}
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

func nextFrame(script []byte) (t FrameType, seq uint64, body, rest []byte, ok bool) {
	if len(script) < 11 {
		return 0, 0, nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(script[9:]))
	rest = script[11:]
	n = min(n, len(rest))
	return FrameType(script[0]), binary.BigEndian.Uint64(script[1:]), rest[:n], rest[n:], true
}

// What a peer with the keys sends in any order: the reader gets the bytes of the frames that are in turn and no others,
// the end only where one was sent, and a stream that is broken says so.
func FuzzStream(f *testing.F) {
	f.Fuzz(func(t *testing.T, asService bool, script []byte) {
		role := RoleApp
		if asService {
			role = RoleService
		}
		p := newPeer(t, role)
		defer p.s.Close()
		m := model{body: asService}
		if asService {
			m.next = 1
			p.s.Preload(nil)
		}
		for {
			ft, seq, body, rest, ok := nextFrame(script)
			if !ok {
				break
			}
			script = rest
			_, limit := p.s.in.position()
			took := p.deliver(ft, seq, body) == nil
			if want := m.deliver(ft, seq, body, limit, role); took != want {
				t.Fatalf("frame %d %d with %d bytes: taken is %v, want %v", ft, seq, len(body), took, want)
			}
			if failed := p.s.Err() != nil; failed != m.failed {
				t.Fatalf("frame %d %d: %v, broken should be %v", ft, seq, p.s.Err(), m.failed)
			}
			if m.failed {
				break
			}
			if next, _ := p.s.in.position(); next != m.next {
				t.Fatalf("expects frame %d, not %d", next, m.next)
			}
		}
		p.s.Fail(errScriptEnd)
		body, whole := readAll(t, p.s, role)
		if !bytes.HasPrefix(m.data, body) || whole && (!m.complete || !bytes.Equal(m.data, body)) {
			t.Errorf("read %d bytes, whole %v; sent %d, whole %v", len(body), whole, len(m.data), m.complete)
		}
	})
}

var errScriptEnd = errors.New("the script is over")

// model is what a receiver must make of frames that open, written down from PROTOCOL.md §7.
type model struct {
	next           uint64
	control        uint64
	body, complete bool // the head has come; all has come
	failed         bool
	sent           int64  // bytes in data frames
	data           []byte // all bytes of the body
}

func (m *model) deliver(ft FrameType, seq uint64, body []byte, limit int64, role Role) (taken bool) {
	control := ft == FrameCredit || ft == FrameCancel
	if ft < FrameHead || ft > FrameCancel || control != (seq >= controlSeq) {
		return false
	}
	if control {
		if seq <= m.control {
			return false
		}
		m.control = seq
		if ft == FrameCancel {
			m.failed = role == RoleService
			return true
		}
		return len(body) == 17 && body[16] <= 1 && body[8] < 0x80
	}
	if seq != m.next {
		return false
	}
	switch {
	case ft == FrameInform && !m.body:
	case (ft == FrameHead || ft == FrameWhole) && !m.body:
		m.body, m.complete = true, ft == FrameWhole
		if len(body) >= 4 {
			if n := uint64(binary.BigEndian.Uint32(body)); n <= MaxHead && n <= uint64(len(body)-4) {
				m.data = append(m.data, body[4+n:]...)
			}
		}
	case ft == FrameData && m.body && !m.complete && len(body) > 0 && m.sent+int64(len(body)) <= limit:
		m.sent += int64(len(body))
		m.data = append(m.data, body...)
	case ft == FrameEnd && m.body && !m.complete:
		m.complete = true
	default:
		m.failed = true
		return false
	}
	m.next++
	return true
}

// readAll reads what has come, and reports whether that is a whole body.
func readAll(t *testing.T, s *Stream, role Role) (body []byte, whole bool) {
	if role == RoleApp {
		for {
			h, err := s.Head(context.Background())
			if err != nil {
				return nil, false
			}
			if h.Type != FrameInform {
				break
			}
		}
	}
	body, err := io.ReadAll(s)
	if err == nil && !s.Complete() {
		t.Error("the end of a body that is not complete")
	}
	return body, err == nil
}

// The forms of control frames and of unsealed refusals: what is read is written again as the same bytes.
func FuzzControl(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		if ack, limit, resend, err := parseCredit(b); err == nil {
			if _, again := creditFrame(ack, limit, resend); !bytes.Equal(again, b) || limit < 0 {
				t.Errorf("%x is written as %x", b, again)
			}
		}
		code, ok := ParseUnsealedRefusal(b)
		switch {
		case ok != (len(b) > 0 && b[0] == replyUnsealed):
			t.Errorf("%x is a refusal: %v", b, ok)
		case !ok:
		case code != CodeRefused && code != CodeClockSkew && code != CodeReplayFull && code != CodeGrantUnknown:
			t.Errorf("%x says %s", b, code)
		case code != CodeRefused && !bytes.Equal(UnsealedRefusal(code), b):
			t.Errorf("%x is written as %x", b, UnsealedRefusal(code))
		}
	})
}

// What stands in front of frame 0 is read as it is written.
func FuzzSplitRequest(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		sealed, hash, frame, err := SplitRequest(b)
		if err != nil {
			return
		}
		known := &hash
		if sealed != nil {
			known = nil
			if len(sealed) == 0 || len(sealed) > MaxGrant || hash != HashGrant(sealed) {
				t.Errorf("a grant of %d bytes", len(sealed))
			}
		}
		again := make([]byte, grantRoom(sealed, known))
		putGrant(again, sealed, known)
		if again = append(again, frame...); !bytes.Equal(again, b) {
			t.Errorf("%x is written as %x", b, again)
		}
	})
}
