package relay

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Only what the service has signed is accepted, and only in one spelling.
func FuzzAnnouncement(f *testing.F) {
	trust := fixedTrust(f)
	signed := map[string]bool{}
	for _, c := range announcementCases(f).Cases {
		if c.Want == "ok" {
			signed[c.Payload] = true
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		a, err := trust.VerifyAnnouncement(serviceName, payload, fixedNow)
		if err == nil && (!signed[string(payload)] || a.recipient == nil || a.Service != serviceName) {
			t.Errorf("accepted a forged announcement: %s", payload)
		}
		if err != nil && !errors.Is(err, CodeRefused) && !errors.Is(err, CodeWorkerUntrusted) && !errors.Is(err, CodeClockSkew) {
			t.Errorf("%v", err)
		}
	})
}

// Only grants that were sealed open.
func FuzzGrant(f *testing.F) {
	o := fixedOpener(f)
	sealed := map[string]bool{}
	for _, c := range grantCases(f).Cases {
		sealed[c.Grant] = true
	}
	f.Fuzz(func(t *testing.T, compact string) {
		if _, err := o.Open(compact, appName, fixedNow); err == nil && !sealed[compact] {
			t.Error("opened what nobody sealed")
		}
	})
}

// No frame opens but those that were sealed, a payload never brings down either side, and nothing that does not open
// changes a stream.
func FuzzFrame(f *testing.F) {
	sealed := map[string]bool{}
	for _, c := range frameCases(f).Cases {
		sealed[string(unhex(f, c.Frame))] = true
		sealed[string(unhex(f, c.Payload))] = true
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, role := range []Role{RoleApp, RoleService} {
			p := newPeer(t, role)
			next, limit := p.s.in.position()
			err := p.s.Deliver(bytes.Clone(payload))
			if err == nil && !sealed[string(payload)] && (role == RoleService || len(payload) < 17 || !sealed[string(payload[17:])]) {
				t.Errorf("%s took a forged frame", role)
			}
			if n, l := p.s.in.position(); err != nil && (n != next || l != limit || p.s.heard.Load() != 0) {
				t.Errorf("%s: %v, and the stream changed", role, err)
			}
			p.s.Close()
		}
		if ft, seq, err := parseFrame(payload); err == nil && (ft.control() != (seq >= controlSeq) || payload[0] != Version) {
			t.Errorf("frame %d %d", ft, seq)
		}
	})
}

// A head that is accepted can be sent on: it encodes, and decodes to the same.
func FuzzRequestHead(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		plainIsTheSame(t, data, new(RequestHead), new(RequestHead))
		h, err := DecodeRequestHead(data)
		if err != nil || h.Check() != nil {
			return
		}
		checkFields(t, h.Header, h.Trailer)
		b, err := EncodeHead(h)
		if errors.Is(err, CodeHeadTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeRequestHead(b)
		if err != nil || again.Check() != nil || !maps.EqualFunc(again.Header, h.Header, slices.Equal) || !slices.Equal(again.Trailer, h.Trailer) {
			t.Fatalf("%s: %v", b, err)
		}
		again.Header, again.Trailer = h.Header, h.Trailer
		if !reflect.DeepEqual(again, h) {
			t.Errorf("%s is read otherwise the second time", data)
		}
		StripRequest(h.Header)
		for name := range h.Header {
			if requestDropped(foldName(nil, name)) || hopByHop(foldName(nil, name)) {
				t.Errorf("%s stays", name)
			}
		}
	})
}

func FuzzReplyHead(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		plainIsTheSame(t, data, new(ReplyHead), new(ReplyHead))
		h, err := DecodeReplyHead(data)
		if err != nil {
			return
		}
		checkFields(t, h.Header, h.Trailer)
		if h.Status < 100 || h.Status > 999 || h.Refusal != nil && h.Failure != nil {
			t.Errorf("%+v", h)
		}
		b, err := EncodeHead(h)
		if errors.Is(err, CodeHeadTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeReplyHead(b)
		if err != nil || !maps.EqualFunc(again.Header, h.Header, slices.Equal) || !slices.Equal(again.Trailer, h.Trailer) {
			t.Fatalf("%s: %v", b, err)
		}
		again.Header, again.Trailer = h.Header, h.Trailer
		if !reflect.DeepEqual(again, h) {
			t.Errorf("%s is read otherwise the second time", data)
		}
	})
}

func FuzzEnd(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := DecodeEnd(data)
		if err != nil {
			return
		}
		checkFields(t, e.Trailer, nil)
		b, err := EncodeHead(e)
		if errors.Is(err, CodeHeadTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeEnd(b)
		if err != nil || !maps.EqualFunc(again.Trailer, e.Trailer, slices.Equal) || !reflect.DeepEqual(again.Failure, e.Failure) {
			t.Errorf("%s is read as %s: %v", data, b, err)
		}
	})
}

// A problem of the peer's becomes an error of ours whose words are from our own table, and can be told on.
func FuzzProblem(f *testing.F) {
	f.Add([]byte("{}")) // no code is none that is told on
	f.Fuzz(func(t *testing.T, data []byte) {
		var p, again Problem
		if unmarshalStrict(data, &p) != nil {
			return
		}
		if b := encode(t, p); unmarshalStrict(b, &again) != nil || again != p {
			t.Errorf("%s is read otherwise the second time", b)
		}
		e := p.Err()
		told := e.Problem()
		code := p.Code.formed()
		if info := code.Info(); told.Title != info.Title || told.Status != info.Status || told.Code != code || told.Outcome != info.Outcome || !e.Remote {
			t.Errorf("%s is told on as %+v", data, told)
		}
		if e.After < 0 || e.After > maxRetryAfter || told.RequestID != p.RequestID || told.Err().Detail != e.Detail {
			t.Errorf("%s: %+v, told on %+v", data, e, told.Err())
		}
	})
}

// A kit that is accepted is written and read again as the same.
func FuzzKit(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, role := range []Role{RoleApp, RoleService} {
			k, err := ParseKit(data, role)
			if err != nil {
				continue
			}
			again, err := ParseKit(encode(t, k), role)
			if err != nil || k.Role != role || !bytes.Equal(encode(t, again), encode(t, k)) || again.Key != k.Key || again.NKey != k.NKey || again.NATS != k.NATS || again.Name != k.Name || again.SubjectPrefix != k.SubjectPrefix {
				t.Errorf("%s: %v", data, err)
			}
		}
	})
}

// checkFields: nothing that could break out of an HTTP/1.1 head.
func checkFields(t *testing.T, h http.Header, trailer []string) {
	t.Helper()
	for name, values := range h {
		if name == "" || strings.ContainsAny(name, "\r\n\x00 :") || strings.ContainsAny(strings.Join(values, ""), "\r\n\x00") {
			t.Errorf("%q: %q", name, values)
		}
	}
	if strings.ContainsAny(strings.Join(trailer, ""), "\r\n\x00 :,") {
		t.Errorf("%q", trailer)
	}
}
