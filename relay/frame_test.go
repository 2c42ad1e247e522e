package relay

import (
	"encoding/hex"
	"strings"
	"testing"
)

type frameVectors struct {
	Comment string      `json:"comment"`
	Keys    []keyCase   `json:"keys"`
	Cases   []frameCase `json:"cases"`
}

// keyCase is one derivation; all members are hex but the ids.
type keyCase struct {
	Name   string `json:"name"`
	Secret string `json:"secret"`
	Salt   string `json:"salt"` // of the reply, at the end of info; empty for requests
	Info   string `json:"info"`
	Gid    ID     `json:"gid"`
	ID     ID     `json:"id"`
	Key    string `json:"key"`
}

// frameCase is one frame under one of these keys.
type frameCase struct {
	Name      string `json:"name"`
	Key       string `json:"key"` // request or reply: the name of a key case
	Type      int    `json:"type,omitzero"`
	Seq       string `json:"seq,omitempty"`       // decimal, since JSON numbers end at 2^53
	Plaintext string `json:"plaintext,omitempty"` // hex
	Payload   string `json:"payload"`             // hex, the NATS message
	Frame     string `json:"frame"`               // hex, the frame within the payload
	Want      string `json:"want"`                // ok, size, version, type, or open
}

func frameCases(t testing.TB) frameVectors {
	gid, id, salt := fixedID("gid"), fixedID("request"), seed("salt")[:saltSize]
	keys := newKeySource(seed("secret"), gid)
	v := frameVectors{Comment: "PROTOCOL.md section 7. The grant in front of frame 0 is the text GRANT."}
	key := func(name, label string, salt []byte, id ID) {
		info := append(append(append([]byte(label), gid[:]...), id[:]...), salt...)
		v.Keys = append(v.Keys, keyCase{name, hex.EncodeToString(seed("secret")), hex.EncodeToString(salt), hex.EncodeToString(info), gid, id, hex.EncodeToString(hkdfByHand(seed("secret"), info))})
	}
	key("request", "obo/1 request", nil, id)
	key("reply", "obo/1 reply", salt, id)
	key("request, another id", "obo/1 request", nil, fixedID("another request"))
	key("reply, another salt", "obo/1 reply", seed("other salt")[:saltSize], id)

	type wire struct{ front, frame []byte }
	seal := func(name string, front []byte, ft FrameType, seq uint64, plaintext string) wire {
		aead := keys.request(id)
		if name == "reply" {
			aead = keys.reply(id, salt)
		}
		b := newFrame(0, ft, seq, len(plaintext))
		return wire{front, sealFrame(aead, append(b, plaintext...), 0)}
	}
	add := func(name, key, want string, ft FrameType, seq string, plaintext string, w wire) {
		c := frameCase{Name: name, Key: key, Payload: hex.EncodeToString(append(append([]byte(nil), w.front...), w.frame...)), Frame: hex.EncodeToString(w.frame), Want: want}
		if want == "ok" {
			c.Type, c.Seq, c.Plaintext = int(ft), seq, hex.EncodeToString([]byte(plaintext))
		}
		v.Cases = append(v.Cases, c)
	}
	salted := append([]byte{replySalted}, salt...)
	grant := append([]byte{0, 5}, "GRANT"...)
	head := string(headPlaintext(`{"method":"GET"}`, "first bytes"))
	_, credit := creditFrame(7, 65536, true)
	add("request head", "request", "ok", FrameHead, "0", head, seal("request", grant, FrameHead, 0, head))
	add("request whole", "request", "ok", FrameWhole, "0", head, seal("request", grant, FrameWhole, 0, head))
	add("request data", "request", "ok", FrameData, "1", "hello", seal("request", nil, FrameData, 1, "hello"))
	add("request data, large seq", "request", "ok", FrameData, "9223372036854775807", "x", seal("request", nil, FrameData, controlSeq-1, "x"))
	add("request end", "request", "ok", FrameEnd, "2", "{}", seal("request", nil, FrameEnd, 2, "{}"))
	add("request credit", "request", "ok", FrameCredit, "9223372036854775808", string(credit), seal("request", nil, FrameCredit, controlSeq, string(credit)))
	add("request cancel", "request", "ok", FrameCancel, "9223372036854775809", "timeout", seal("request", nil, FrameCancel, controlSeq+1, "timeout"))
	add("reply credit before the head", "reply", "ok", FrameCredit, "9223372036854775808", string(credit), seal("reply", salted, FrameCredit, controlSeq, string(credit)))
	add("reply inform", "reply", "ok", FrameInform, "0", `{"status":103}`, seal("reply", salted, FrameInform, 0, `{"status":103}`))
	add("reply head after an inform", "reply", "ok", FrameHead, "1", head, seal("reply", nil, FrameHead, 1, head))
	add("reply whole", "reply", "ok", FrameWhole, "0", head, seal("reply", salted, FrameWhole, 0, head))
	add("reply data", "reply", "ok", FrameData, "2", "hello", seal("reply", nil, FrameData, 2, "hello"))

	bad := func(name, want string, frame []byte) { add(name, "request", want, 0, "", "", wire{nil, frame}) }
	good := seal("request", nil, FrameData, 1, "hello").frame
	edit := func(f func([]byte) []byte) []byte { return f(append([]byte(nil), good...)) }
	bad("empty", "size", nil)
	bad("clear header only", "size", good[:frameHeader])
	bad("one byte too short", "size", good[:frameHeader+frameTag-1])
	bad("version 0", "version", edit(func(b []byte) []byte { b[0] = 0; return b }))
	bad("version 2", "version", edit(func(b []byte) []byte { b[0] = 2; return b }))
	bad("type 0", "type", seal("request", nil, 0, 1, "x").frame)
	bad("type 8", "type", seal("request", nil, 8, 1, "x").frame)
	bad("type 255", "type", seal("request", nil, 255, 1, "x").frame)
	bad("data in the control space", "type", seal("request", nil, FrameData, controlSeq, "x").frame)
	bad("head in the control space", "type", seal("request", nil, FrameHead, controlSeq, "x").frame)
	bad("credit in the ordered space", "type", seal("request", nil, FrameCredit, 1, string(credit)).frame)
	bad("cancel in the ordered space", "type", seal("request", nil, FrameCancel, 0, "timeout").frame)
	bad("another type than sealed", "open", edit(func(b []byte) []byte { b[1] = byte(FrameEnd); return b }))
	bad("another seq than sealed", "open", edit(func(b []byte) []byte { b[9] = 2; return b }))
	bad("ciphertext altered", "open", edit(func(b []byte) []byte { b[frameHeader] ^= 1; return b }))
	bad("tag altered", "open", edit(func(b []byte) []byte { b[len(b)-1] ^= 0x80; return b }))
	bad("last byte missing", "open", good[:len(good)-1])
	bad("byte appended", "open", append(append([]byte(nil), good...), 0))
	bad("sealed as a reply", "open", seal("reply", nil, FrameData, 1, "hello").frame)
	b := newFrame(0, FrameData, 1, 5)
	bad("sealed for another request", "open", sealFrame(keys.request(fixedID("another request")), append(b, "hello"...), 0))
	b = newFrame(0, FrameData, 1, 5)
	bad("sealed under another grant", "open", sealFrame(newKeySource(seed("secret"), fixedID("another gid")).request(id), append(b, "hello"...), 0))
	return v
}

func TestFrameVectors(t *testing.T) {
	v := vectors(t, "frames.json", frameCases(t))
	gid, id, salt := fixedID("gid"), fixedID("request"), seed("salt")[:saltSize]
	keys := newKeySource(seed("secret"), gid)
	for _, c := range v.Keys {
		if got := hex.EncodeToString(hkdfByHand(unhex(t, c.Secret), unhex(t, c.Info))); got != c.Key {
			t.Errorf("%s: key %s, want %s", c.Name, got, c.Key)
		}
	}
	for _, c := range v.Cases {
		t.Run(c.Name, func(t *testing.T) {
			// What is sealed with the key by hand opens with the key of this package.
			for _, k := range v.Keys {
				if k.Name != c.Key || c.Want != "ok" {
					continue
				}
				b := unhex(t, c.Frame)
				if got, err := openFrame(&frameKey{aead: gcm(t, unhex(t, k.Key))}, b); err != nil || hex.EncodeToString(got.Body) != c.Plaintext {
					t.Errorf("with the derived key: %v", err)
				}
			}
			aead := keys.request(id)
			if c.Key == "reply" {
				aead = keys.reply(id, salt)
			}
			f, err := openFrame(aead, unhex(t, c.Frame))
			if c.Want != "ok" {
				if err == nil || !strings.Contains(err.Error(), c.Want) {
					t.Errorf("%v, want %s", err, c.Want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if int(f.Type) != c.Type || c.Seq != decimal(f.Seq) || hex.EncodeToString(f.Body) != c.Plaintext {
				t.Errorf("opened to %d %d %x", f.Type, f.Seq, f.Body)
			}
			p := newPeer(t, map[string]Role{"request": RoleService, "reply": RoleApp}[c.Key])
			defer p.s.Close()
			if c.Key == "reply" { // the salt may have come with an earlier frame
				p.s.in.key = p.s.cfg.Grant.keys.reply(id, salt)
			}
			got, err := p.s.in.open(unhex(t, strings.TrimPrefix(c.Payload, hex.EncodeToString([]byte("\x00\x05GRANT")))))
			if err != nil || got.Seq != f.Seq {
				t.Errorf("as a payload: %v", err)
			}
		})
	}
}

// A frame is sealed in place: no copy, and what stands in front of it is untouched.
func TestSealFrameInPlace(t *testing.T) {
	aead := testGrant().keys.request(fixedID("request"))
	b := newFrame(7, FrameData, 5, 100)
	copy(b, "GRANTED")
	before := &b[0]
	b = sealFrame(aead, append(b, make([]byte, 100)...), 7)
	if &b[0] != before || string(b[:7]) != "GRANTED" || len(b) != 7+frameHeader+100+frameTag || cap(b) != len(b) {
		t.Errorf("len %d, cap %d, front %q", len(b), cap(b), b[:7])
	}
	if f, err := openFrame(aead, b[7:]); err != nil || len(f.Body) != 100 || &f.Body[0] != &b[7+frameHeader] {
		t.Errorf("not opened in place: %v", err)
	}
}

func TestFrameSizes(t *testing.T) {
	aead := testGrant().keys.request(fixedID("request"))
	for size, want := range map[int]bool{0: true, 1: true, MaxFrame: true, MaxFrame + 1: false} {
		b := sealFrame(aead, append(newFrame(0, FrameData, 1, size), make([]byte, size)...), 0)
		if f, err := openFrame(aead, b); (err == nil) != want || err == nil && len(f.Body) != size {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestFrameLimit(t *testing.T) {
	for maxPayload, want := range map[int64]int{64 << 10: 48 << 10, 70_000: 70_000 - 16<<10, 80 << 10: 64 << 10, 1 << 20: 64 << 10, 64 << 20: 64 << 10, 0: 48 << 10, 10_000: 48 << 10, -1 << 63: 48 << 10} {
		if got := FrameLimit(maxPayload); got != want {
			t.Errorf("FrameLimit(%d) = %d, want %d", maxPayload, got, want)
		}
	}
}

// newFrame begins a message with capacity for size bytes of plaintext.
func newFrame(room int, t FrameType, seq uint64, size int) []byte {
	return beginFrame(make([]byte, 0, frameSize(room, size)), room, t, seq)
}
