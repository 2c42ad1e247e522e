package relay

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
)

type replyVectors struct {
	Comment  string         `json:"comment"`
	ID       ID             `json:"id"`
	Gid      ID             `json:"gid"`
	Secret   string         `json:"secret"` // base64url, as in the grant
	Cases    []replyCase    `json:"cases"`
	Unsealed []unsealedCase `json:"unsealed"`
}

// replyCase is what comes on one request's rep subject, in this order.
type replyCase struct {
	Name     string         `json:"name"`
	Messages []replyMessage `json:"messages"`
	Want     string         `json:"want"` // whole, open (more may come), broken, refusal, failure
	Status   int            `json:"status,omitzero"`
	Informs  int            `json:"informs,omitzero"`
	Body     string         `json:"body,omitempty"` // hex, all that may be given to the reader
	Trailer  string         `json:"trailer,omitempty"`
	Code     Code           `json:"code,omitempty"`
}

type replyMessage struct {
	Payload string `json:"payload"` // hex
	Dropped bool   `json:"dropped,omitzero"`
}

type unsealedCase struct {
	Payload string `json:"payload"`
	Code    Code   `json:"code"` // what the publisher takes it for; empty: it is no unsealed refusal
}

func replyCases(t testing.TB) replyVectors {
	gid, id := fixedID("gid"), fixedID("request")
	keys := newKeySource(seed("secret"), gid)
	v := replyVectors{Comment: "PROTOCOL.md sections 7 and 9: the messages on the rep subject of one request, at its publisher.", ID: id, Gid: gid, Secret: encodeBase64(seed("secret"))}
	frame := func(salt string, front bool, ft FrameType, seq uint64, body string) replyMessage {
		s := seed(salt)[:saltSize]
		b := sealFrame(keys.reply(id, s), append(newFrame(0, ft, seq, len(body)), body...), 0)
		if front {
			b = append(append([]byte{replySalted}, s...), b...)
		}
		return replyMessage{Payload: hex.EncodeToString(b)}
	}
	first := func(ft FrameType, seq uint64, body string) replyMessage { return frame("salt", true, ft, seq, body) }
	then := func(ft FrameType, seq uint64, body string) replyMessage { return frame("salt", false, ft, seq, body) }
	dropped := func(m replyMessage) replyMessage { m.Dropped = true; return m }
	add := func(c replyCase, messages ...replyMessage) {
		c.Messages = messages
		v.Cases = append(v.Cases, c)
	}
	text := func(s string) string { return hex.EncodeToString([]byte(s)) }
	head := string(headPlaintext(`{"status":200,"header":{"Content-Type":["text/plain"]},"length":-1}`, ""))
	begun := string(headPlaintext(`{"status":201,"header":{},"length":-1}`, "first "))
	_, credit := creditFrame(1, 1<<20, false)
	refusal := NewError(CodeForbidden, "the policy does not allow it").Problem()
	said := func(member string) string {
		return string(headPlaintext(string(encode(t, map[string]any{"status": 403, "header": map[string]any{}, "length": 0, member: refusal})), ""))
	}
	end := first(FrameEnd, 2, "{}").Payload

	add(replyCase{Name: "whole", Want: "whole", Status: 201, Body: text("first ")}, first(FrameWhole, 0, begun))
	add(replyCase{Name: "head, data and end", Want: "whole", Status: 201, Body: text("first second third"), Trailer: `{"X-Sum":["1"]}`},
		first(FrameHead, 0, begun), then(FrameData, 1, "second "), then(FrameData, 2, "third"), then(FrameEnd, 3, `{"trailer":{"X-Sum":["1"]}}`))
	add(replyCase{Name: "informs before the head", Want: "whole", Status: 200, Informs: 2},
		first(FrameInform, 0, `{"status":103,"header":{},"length":0}`), then(FrameInform, 1, `{"status":102,"header":{},"length":0}`), then(FrameHead, 2, head), then(FrameEnd, 3, "{}"))
	add(replyCase{Name: "credit before the head, salted", Want: "whole", Status: 200}, first(FrameCredit, controlSeq, string(credit)), then(FrameWhole, 0, head))
	add(replyCase{Name: "both salted with one salt", Want: "whole", Status: 200}, first(FrameCredit, controlSeq, string(credit)), first(FrameWhole, 0, head))
	add(replyCase{Name: "not ended", Want: "open", Status: 200, Body: text("some")}, first(FrameHead, 0, head), then(FrameData, 1, "some"))
	add(replyCase{Name: "a frame twice", Want: "whole", Status: 200, Body: text("once")},
		first(FrameHead, 0, head), then(FrameData, 1, "once"), dropped(then(FrameData, 1, "once")), then(FrameEnd, 2, "{}"))
	add(replyCase{Name: "a frame ahead of its turn, and again in turn", Want: "whole", Status: 200, Body: text("ab")},
		first(FrameHead, 0, head), dropped(then(FrameData, 2, "b")), then(FrameData, 1, "a"), then(FrameData, 2, "b"), then(FrameEnd, 3, "{}"))
	add(replyCase{Name: "a gap", Want: "open", Status: 200, Body: text("a")}, first(FrameHead, 0, head), then(FrameData, 1, "a"), dropped(then(FrameEnd, 3, "{}")))
	add(replyCase{Name: "a control frame that is not above the highest", Want: "open", Status: 200},
		first(FrameHead, 0, head), then(FrameCredit, controlSeq+5, string(credit)), dropped(then(FrameCredit, controlSeq+5, string(credit))), dropped(then(FrameCredit, controlSeq+4, string(credit))), then(FrameCredit, controlSeq+6, string(credit)))
	for name, body := range map[string]string{"16 bytes": string(credit[:16]), "an unknown flag": string(credit[:16]) + "\x02", "a limit over 2^63": strings.Repeat("\xff", 16) + "\x00"} {
		add(replyCase{Name: "credit of " + name, Want: "open", Status: 200}, first(FrameHead, 0, head), dropped(then(FrameCredit, controlSeq, body)))
	}
	add(replyCase{Name: "before any salt", Want: "whole", Status: 200}, dropped(then(FrameHead, 0, head)), first(FrameWhole, 0, head))
	add(replyCase{Name: "another salt later", Want: "open", Status: 200}, first(FrameHead, 0, head), dropped(frame("other salt", true, FrameEnd, 1, "{}")))
	add(replyCase{Name: "another salt before the right one", Want: "whole", Status: 200},
		dropped(replyMessage{Payload: text("\x02") + hex.EncodeToString(seed("other salt")[:saltSize]) + first(FrameWhole, 0, head).Payload[34:]}), first(FrameWhole, 0, head))
	add(replyCase{Name: "altered and cut", Want: "open", Status: 200}, first(FrameHead, 0, head), dropped(replyMessage{Payload: end[34:len(end)-2] + "00"}), dropped(replyMessage{Payload: end[34 : len(end)-2]}), dropped(replyMessage{}))
	add(replyCase{Name: "the request played back", Want: "open"}, dropped(replyMessage{Payload: hex.EncodeToString(
		sealFrame(keys.request(id), append(newFrame(0, FrameWhole, 0, len(head)), head...), 0))}))
	add(replyCase{Name: "another request's reply", Want: "open"}, dropped(replyMessage{Payload: "02" + hex.EncodeToString(seed("salt")[:saltSize]) + hex.EncodeToString(
		sealFrame(keys.reply(fixedID("another request"), seed("salt")[:saltSize]), append(newFrame(0, FrameWhole, 0, len(head)), head...), 0))}))

	add(replyCase{Name: "refusal", Want: "refusal", Code: CodeForbidden}, first(FrameWhole, 0, said("refusal")))
	add(replyCase{Name: "failure in the head", Want: "failure", Code: CodeForbidden}, first(FrameWhole, 0, said("failure")))
	add(replyCase{Name: "failure in the end", Want: "failure", Status: 200, Body: text("a"), Code: CodeForbidden},
		first(FrameHead, 0, head), then(FrameData, 1, "a"), then(FrameEnd, 2, string(encode(t, map[string]any{"failure": refusal}))))
	both := strings.TrimSuffix(said("refusal")[4:], "}") + `,"failure":` + string(encode(t, refusal)) + "}"
	add(replyCase{Name: "refusal and failure", Want: "broken"}, first(FrameWhole, 0, string(headPlaintext(both, ""))))

	add(replyCase{Name: "two heads", Want: "broken", Status: 200}, first(FrameHead, 0, head), dropped(then(FrameHead, 1, head)))
	add(replyCase{Name: "data before the head", Want: "broken"}, dropped(first(FrameData, 0, "a")))
	add(replyCase{Name: "end before the head", Want: "broken"}, dropped(first(FrameEnd, 0, "{}")))
	var informs []replyMessage
	for i := range uint64(maxInforms) {
		informs = append(informs, first(FrameInform, i, `{"status":103,"header":{},"length":0}`))
	}
	informs = append(informs, first(FrameInform, maxInforms, `no JSON`))
	add(replyCase{Name: "65 informs that nobody has read", Want: "whole", Status: 200, Informs: 64}, append(informs, first(FrameHead, maxInforms+1, head), then(FrameEnd, maxInforms+2, "{}"))...)
	add(replyCase{Name: "inform after the head", Want: "broken", Status: 200}, first(FrameHead, 0, head), dropped(then(FrameInform, 1, `{"status":103,"header":{},"length":0}`)))
	add(replyCase{Name: "empty data", Want: "broken", Status: 200}, first(FrameHead, 0, head), dropped(then(FrameData, 1, "")))
	add(replyCase{Name: "more than the credit", Want: "broken", Status: 200, Body: text(strings.Repeat("a", 1<<16))},
		first(FrameHead, 0, head), then(FrameData, 1, strings.Repeat("a", 1<<16)), dropped(then(FrameData, 2, "b")))
	add(replyCase{Name: "the end is no end", Want: "broken", Status: 200}, first(FrameHead, 0, head), then(FrameEnd, 1, `{"x":1}`))
	add(replyCase{Name: "the head is no head", Want: "broken"}, first(FrameHead, 0, string(headPlaintext(`{"status":99,"header":{},"length":0}`, ""))))
	add(replyCase{Name: "the head's length does not fit", Want: "broken"}, first(FrameHead, 0, "\x00\x00\x00\x09{}"))
	add(replyCase{Name: "a field value with LF", Want: "broken"}, first(FrameHead, 0, string(headPlaintext(`{"status":200,"header":{"A":["\n"]},"length":0}`, ""))))

	for _, c := range []Code{CodeRefused, CodeClockSkew, CodeReplayFull, CodeGrantUnknown} {
		v.Unsealed = append(v.Unsealed, unsealedCase{hex.EncodeToString(UnsealedRefusal(c)), c})
	}
	v.Unsealed = append(v.Unsealed, unsealedCase{hex.EncodeToString(UnsealedRefusal(CodeForbidden)), CodeRefused}, unsealedCase{"00", CodeRefused}, unsealedCase{"", ""}, unsealedCase{"01", ""}, unsealedCase{"02", ""})
	sortCases(v.Cases, func(c replyCase) string { return c.Name })
	return v
}

func TestReplyVectors(t *testing.T) {
	v := vectors(t, "replies.json", replyCases(t))
	for _, c := range v.Cases {
		t.Run(c.Name, func(t *testing.T) {
			p := newPeer(t, RoleApp)
			defer p.s.Close()
			for i, m := range c.Messages {
				if err := p.s.Deliver(unhex(t, m.Payload)); (err != nil) != m.Dropped {
					t.Errorf("message %d: %v", i, err)
				}
			}
			broken := p.s.Err() != nil
			got := replyCase{Name: c.Name, Want: "open"}
			err := readReply(p.s, &got)
			switch e := AsError(err); {
			case err == nil:
				got.Want = "whole"
			case e.Remote:
				got.Code = e.Code
				if got.Want != "refusal" {
					got.Want = "failure"
				}
			case broken || !errors.Is(err, errScriptEnd):
				got.Want = "broken"
			}
			c.Messages = nil
			if string(encode(t, got)) != string(encode(t, c)) {
				t.Errorf("read as %s, want %s: %v", encode(t, got), encode(t, c), err)
			}
		})
	}
	for _, c := range v.Unsealed {
		if code, ok := ParseUnsealedRefusal(unhex(t, c.Payload)); ok != (c.Code != "") || code != c.Code {
			t.Errorf("%s is read as %q", c.Payload, code)
		}
	}
}

// readReply reads what has come, as a publisher does.
func readReply(s *Stream, got *replyCase) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errScriptEnd) // what has come is read all the same
	for {
		f, err := s.Head(ctx)
		if err != nil {
			return err
		}
		h, err := DecodeReplyHead(f.JSON)
		if err != nil {
			return err
		}
		if f.Type == FrameInform {
			got.Informs++
			continue
		}
		if h.Refusal != nil {
			got.Want = "refusal"
			return h.Refusal.Err()
		}
		if h.Failure != nil {
			return h.Failure.Err()
		}
		got.Status = h.Status
		break
	}
	body, err := io.ReadAll(readerFunc(func(p []byte) (int, error) { return s.ReadContext(ctx, p) }))
	got.Body = hex.EncodeToString(body)
	if err == nil && s.Trailer() != nil && s.Trailer().Trailer != nil {
		b, _ := marshal(s.Trailer().Trailer)
		got.Trailer = string(b)
	}
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
