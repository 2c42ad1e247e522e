package relay

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
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

// What checkGrantForm accepts go-jose parses too, and reads in the same way; and only grants that were sealed open.
func FuzzGrant(f *testing.F) {
	o := fixedOpener(f)
	sealed := map[string]bool{}
	for _, c := range grantCases(f).Cases {
		sealed[c.Grant] = true
	}
	f.Fuzz(func(t *testing.T, compact string) {
		rkid, err := checkGrantForm(compact)
		if err == nil {
			j, err := jose.ParseEncryptedCompact(compact, []jose.KeyAlgorithm{jose.ECDH_ES}, []jose.ContentEncryption{jose.A256GCM})
			if err != nil {
				t.Fatalf("go-jose does not parse it: %v", err)
			}
			again, err := j.CompactSerialize()
			if err != nil {
				t.Fatal(err)
			}
			// go-jose writes the header's members in its own order, and everything else as it was.
			header, rest, _ := strings.Cut(compact, ".")
			header2, rest2, _ := strings.Cut(again, ".")
			if rest != rest2 || canonical(t, unpad(t, header)) != canonical(t, unpad(t, header2)) {
				t.Errorf("go-jose writes it otherwise: %s", again)
			}
			if j.Header.KeyID != rkid {
				t.Errorf("go-jose reads the kid %s", j.Header.KeyID)
			}
		}
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
		if err != nil || again.Check() != nil || again.Method != h.Method || again.Path != h.Path || again.Query != h.Query || again.Timeout() != h.Timeout() || !maps.EqualFunc(again.Header, h.Header, slices.Equal) {
			t.Errorf("%s: %v", b, err)
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
		if e, err := DecodeEnd(data); err == nil {
			checkFields(t, e.Trailer, nil)
		}
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
		if err != nil || again.Status != h.Status || again.Length != h.Length || !maps.EqualFunc(again.Header, h.Header, slices.Equal) {
			t.Errorf("%s: %v", b, err)
		}
		for _, p := range []*Problem{h.Refusal, h.Failure} {
			if p != nil && p.Err().After < 0 {
				t.Errorf("%+v", p.Err())
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

// fuzzSeeds are the vectors, as the arguments of each target.
func fuzzSeeds(t *testing.T) map[string]map[string][]any {
	seeds := map[string]map[string][]any{}
	add := func(target, name string, args ...any) {
		if seeds[target] == nil {
			seeds[target] = map[string][]any{}
		}
		seeds[target][slug(name)] = args
	}
	for _, c := range announcementCases(t).Cases {
		add("FuzzAnnouncement", c.Name, []byte(c.Payload))
	}
	for _, c := range grantCases(t).Cases {
		if len(c.Grant) < 4096 {
			add("FuzzGrant", c.Name, c.Grant)
		}
	}
	for _, c := range frameCases(t).Cases {
		add("FuzzFrame", c.Name, unhex(t, c.Payload))
	}
	for _, c := range headCases(t).Cases {
		switch c.Document {
		case RequestHeadTypeName:
			add("FuzzRequestHead", c.Name, []byte(c.JSON))
		default:
			add("FuzzReplyHead", c.Name, []byte(c.JSON))
		}
	}
	for _, c := range subjectCases().Cases {
		add("FuzzSubject", c.Name, c.Subject)
	}
	for i, c := range pathCases().Cases {
		if len(c.Path) < 100 {
			add("FuzzPath", fmt.Sprintf("%02d", i), c.Path)
		}
	}
	for _, c := range hintCases().Cases {
		for name, values := range c.Hints {
			values = append(slices.Clone(values), "", "")
			add("FuzzHints", c.Name+" "+name, name, values[0], values[1], len(c.Hints[name]) > 1)
		}
	}
	for _, d := range documents(t) {
		if d.name == TrustTypeName {
			for name, v := range d.valid {
				add("FuzzTrust", name, encode(t, v))
			}
			for name := range d.bad {
				add("FuzzTrust", "bad "+name, readFile(t, examplePath(d.name, "bad-"+name+".json")))
			}
		}
	}
	return seeds
}

func slug(name string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		if r < 128 && (isToken(byte(r)) && r != '*' && r != '|' && r != '\'' && r != '`' && r != '$' && r != '&' && r != '!' && r != '#' && r != '%') {
			return r
		}
		return '-'
	}, name), "-")
}

// The seeds of every fuzz target are checked in and made from the vectors; what a fuzzing run found stands beside them.
func TestFuzzSeedsExist(t *testing.T) {
	for target, seeds := range fuzzSeeds(t) {
		for name, args := range seeds {
			var b strings.Builder
			b.WriteString("go test fuzz v1\n")
			for _, a := range args {
				switch a := a.(type) {
				case []byte:
					fmt.Fprintf(&b, "[]byte(%s)\n", strconv.Quote(string(a)))
				case string:
					fmt.Fprintf(&b, "string(%s)\n", strconv.Quote(a))
				default:
					fmt.Fprintf(&b, "%T(%v)\n", a, a)
				}
			}
			golden(t, filepath.Join("testdata", "fuzz", target, name), []byte(b.String()))
		}
	}
	var targets []string
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for line := range strings.SplitSeq(string(readFile(t, file)), "\n") {
			if name, ok := strings.CutPrefix(line, "func Fuzz"); ok {
				targets = append(targets, "Fuzz"+name[:strings.IndexByte(name, '(')])
			}
		}
	}
	for _, target := range targets {
		if entries, err := os.ReadDir(filepath.Join("testdata", "fuzz", target)); err != nil || len(entries) < 3 {
			t.Errorf("%s has %d seeds: %v", target, len(entries), err)
		}
	}
	if len(targets) != 9 {
		t.Errorf("%d targets", len(targets))
	}
}
