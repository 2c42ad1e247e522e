package relay

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

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
		if parts := strings.Split(c.Payload, "."); len(parts) == 3 {
			add("FuzzAnnouncementClaims", c.Name, decoded(parts[0]), decoded(parts[1]))
		}
	}
	for _, c := range grantCases(t).Cases {
		if len(c.Grant) < 4096 {
			add("FuzzGrant", c.Name, c.Grant)
			add("FuzzJWE", c.Name, c.Grant)
		}
		if inner, err := openJWE(c.Grant, fixedInstanceKey(t, "instance").private); err == nil {
			add("FuzzJWS", c.Name, string(inner))
			if parts := strings.Split(string(inner), "."); len(parts) == 3 && len(inner) < 4096 {
				add("FuzzGrantClaims", c.Name, decoded(parts[0]), decoded(parts[1]), c.Opaque)
			}
		}
	}
	for _, c := range frameCases(t).Cases {
		add("FuzzFrame", c.Name, unhex(t, c.Payload))
	}
	for _, c := range headCases(t).Cases {
		switch c.Document {
		case RequestHeadTypeName:
			add("FuzzRequestHead", c.Name, []byte(c.JSON))
		case EndTypeName:
			add("FuzzEnd", c.Name, []byte(c.JSON))
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
		target := map[string]string{TrustTypeName: "FuzzTrust", KitTypeName: "FuzzKit", ProblemTypeName: "FuzzProblem"}[d.name]
		if target == "" {
			continue
		}
		for name, v := range d.valid {
			add(target, name, encode(t, v))
		}
		for name := range d.bad {
			add(target, "bad "+name, readFile(t, examplePath(d.name, "bad-"+name+".json")))
		}
	}
	streamSeeds(add)
	for name, value := range map[string]string{
		"jwt": jwtToken(fixedNow), "opaque": "dapi0123456789abcdef", "not ASCII": "a\x00\xff", "space": "a b", "two parts": "a.b", "long": strings.Repeat("a", MaxToken+1),
		"exp as text": "e30." + encodeBase64([]byte(`{"exp":"1"}`)) + ".e30", "exp a fraction": "e30." + encodeBase64([]byte(`{"exp":1.5}`)) + ".e30",
		"exp twice": "e30." + encodeBase64([]byte(`{"exp":1,"exp":2}`)) + ".e30", "exp huge": "e30." + encodeBase64([]byte(`{"exp":1e300}`)) + ".e30",
	} {
		add("FuzzToken", name, value)
	}
	for i, which := range []bool{false, true} {
		for part := range 5 {
			add("FuzzMutated", fmt.Sprintf("%d %d", i, part), which, byte(part), uint16(7*part), byte(1), []byte{byte(part)})
			add("FuzzMutated", fmt.Sprintf("%d %d same", i, part), which, byte(part), uint16(0), byte(0), []byte(nil))
		}
	}
	return seeds
}

// streamSeeds are scripts of FuzzStream, and payloads of FuzzControl.
func streamSeeds(add func(target, name string, args ...any)) {
	head, end := string(headPlaintext(`{}`, "first")), `{"trailer":{"X-A":["1"]}}`
	_, credit := creditFrame(3, 1<<20, true)
	for name, frames := range map[string][][]byte{
		"request":           {scriptFrame(FrameData, 1, "hello"), scriptFrame(FrameCredit, controlSeq, string(credit)), scriptFrame(FrameData, 2, "world"), scriptFrame(FrameEnd, 3, end)},
		"request canceled":  {scriptFrame(FrameData, 1, "hello"), scriptFrame(FrameCancel, controlSeq+1, "canceled")},
		"gap":               {scriptFrame(FrameData, 2, "late"), scriptFrame(FrameData, 1, "early"), scriptFrame(FrameData, 2, "late"), scriptFrame(FrameData, 1, "early")},
		"end twice":         {scriptFrame(FrameEnd, 1, "{}"), scriptFrame(FrameEnd, 2, "{}")},
		"after the end":     {scriptFrame(FrameEnd, 1, "{}"), scriptFrame(FrameData, 2, "more")},
		"empty data":        {scriptFrame(FrameData, 1, "")},
		"end is no end":     {scriptFrame(FrameEnd, 1, "[]")},
		"credit falls":      {scriptFrame(FrameCredit, controlSeq+5, string(credit)), scriptFrame(FrameCredit, controlSeq+4, string(credit)), scriptFrame(FrameCredit, controlSeq+6, "short")},
		"over its credit":   {scriptFrame(FrameData, 1, strings.Repeat("a", 40_000)), scriptFrame(FrameData, 2, strings.Repeat("a", 40_000))},
		"reply whole":       {scriptFrame(FrameWhole, 0, head), scriptFrame(FrameData, 1, "more")},
		"reply":             {scriptFrame(FrameInform, 0, "{}"), scriptFrame(FrameHead, 1, head), scriptFrame(FrameData, 2, "hello"), scriptFrame(FrameEnd, 3, end)},
		"two heads":         {scriptFrame(FrameHead, 0, head), scriptFrame(FrameHead, 1, head)},
		"late inform":       {scriptFrame(FrameHead, 0, head), scriptFrame(FrameInform, 1, "{}")},
		"head too short":    {scriptFrame(FrameHead, 0, "abc"), scriptFrame(FrameData, 1, "x")},
		"head length":       {scriptFrame(FrameHead, 0, "\xff\xff\xff\xffabc")},
		"data first":        {scriptFrame(FrameData, 0, "x")},
		"types unknown":     {scriptFrame(0, 0, ""), scriptFrame(8, controlSeq, "")},
		"spaces confounded": {scriptFrame(FrameData, controlSeq, "x"), scriptFrame(FrameCredit, 1, string(credit))},
		"last seq":          {scriptFrame(FrameData, controlSeq-1, "x"), scriptFrame(FrameCredit, 1<<64-1, string(credit))},
	} {
		script := bytes.Join(frames, nil)
		add("FuzzStream", name+" app", false, script)
		add("FuzzStream", name+" service", true, script)
	}
	for name, b := range map[string][]byte{
		"grant": append([]byte{0, 5}, "GRANTFRAME"...), "reference": append(make([]byte, 34), "FRAME"...), "reference too short": make([]byte, 33), "nothing": nil, "one byte": {1},
		"grant too long": bytes.Repeat([]byte{0x3c}, 0x3c3c), "length past the end": {0, 9, 1}, "no frame": {0, 1, 'G'},
	} {
		add("FuzzSplitRequest", name, b)
	}
	for name, b := range map[string][]byte{
		"credit": credit, "flag 2": append(bytes.Clone(credit[:16]), 2), "limit negative": append(bytes.Repeat([]byte{0xff}, 16), 0), "short": credit[:16],
		"refused": UnsealedRefusal(CodeRefused), "clock skew": UnsealedRefusal(CodeClockSkew), "replay full": UnsealedRefusal(CodeReplayFull), "grant unknown": UnsealedRefusal(CodeGrantUnknown),
		"another code": UnsealedRefusal(CodeForbidden), "no code": {replyUnsealed}, "no bytes": nil,
	} {
		add("FuzzControl", name, b)
	}
}

// decoded is a part of a compact object; as it is if it is none.
func decoded(part string) string {
	b, err := decodeBase64(part)
	if err != nil {
		return part
	}
	return string(b)
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
				case byte:
					fmt.Fprintf(&b, "byte(%q)\n", rune(a))
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
	if made := slices.Sorted(maps.Keys(fuzzSeeds(t))); !slices.Equal(made, slices.Sorted(slices.Values(targets))) {
		t.Errorf("seeds are made for %v, the targets are %v", made, targets)
	}
}
