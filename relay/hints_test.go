package relay

import (
	"net/http"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

type hintVectors struct {
	Comment string      `json:"comment"`
	ID      ID          `json:"id"`
	Head    RequestHead `json:"head"`
	Cases   []hintCase  `json:"cases"`
}

type hintCase struct {
	Name  string      `json:"name"`
	Hints nats.Header `json:"hints"`
	Want  string      `json:"want"` // ok or refused
}

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func hintHead() *RequestHead {
	return &RequestHead{
		Method: "POST", Path: "/groups", Query: "secret=1", Header: http.Header{"Traceparent": {traceparent}},
		Subject: "obo.v1.req.middleware." + instanceID + ".ui", Reply: "obo.v1.rep.ui." + fixedID("inbox").String() + "." + fixedID("request").String(),
		IssuedAt: fixedNow.UnixMilli(), TimeoutMS: 30_000,
	}
}

func hintCases() hintVectors {
	id := fixedID("request").String()
	v := hintVectors{Comment: "PROTOCOL.md section 11: the hints of a req message whose head is this one.", ID: fixedID("request"), Head: *hintHead()}
	add := func(name, want string, hints nats.Header) { v.Cases = append(v.Cases, hintCase{name, hints, want}) }
	add("none", "ok", nats.Header{})
	add("full", "ok", nats.Header{HintID: {id}, HintMethod: {"POST"}, HintPath: {"/groups"}, HintTrace: {traceparent}})
	add("minimal", "ok", nats.Header{HintID: {id}})
	add("others' headers", "ok", nats.Header{"Nats-Msg-Id": {"1"}, "X": {"y", "z"}})
	add("another id", "refused", nats.Header{HintID: {fixedID("another request").String()}})
	add("another method", "refused", nats.Header{HintMethod: {"GET"}})
	add("method in lower case", "refused", nats.Header{HintMethod: {"post"}})
	add("another path", "refused", nats.Header{HintPath: {"/health"}})
	add("path with query", "refused", nats.Header{HintPath: {"/groups?secret=1"}})
	add("another trace", "refused", nats.Header{HintTrace: {"00-1"}})
	add("a status", "refused", nats.Header{HintStatus: {"200"}})
	add("empty", "refused", nats.Header{HintPath: {""}})
	add("no value", "refused", nats.Header{HintPath: {}})
	add("twice", "refused", nats.Header{HintMethod: {"POST", "POST"}})
	add("another letter case", "refused", nats.Header{"OBO-PATH": {"/health"}})
	add("in two letter cases", "refused", nats.Header{"OBO-PATH": {"/groups"}, HintPath: {"/groups"}})
	add("trace in canonical form", "refused", nats.Header{"Traceparent": {"00-1"}})
	return v
}

func TestHintVectors(t *testing.T) {
	v := vectors(t, "hints.json", hintCases())
	for _, c := range v.Cases {
		if err := CheckHints(c.Hints, v.ID, &v.Head); (err == nil) != (c.Want == "ok") {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
	v.Head.Header = nil
	if CheckHints(nats.Header{HintTrace: {traceparent}}, v.ID, &v.Head) == nil {
		t.Error("a trace that the head lacks is accepted")
	}
}

func TestHints(t *testing.T) {
	id := fixedID("request")
	for level, want := range map[Hints]int{HintsFull: 4, HintsMinimal: 1, HintsNone: 0} {
		if err := level.Validate(); err != nil {
			t.Error(err)
		}
		h := level.Request(id, hintHead())
		if len(h) != want || CheckHints(h, id, hintHead()) != nil {
			t.Errorf("%s: %v", level, h)
		}
		for _, values := range h {
			if strings.Contains(values[0], "secret") {
				t.Errorf("%s shows the query: %v", level, h)
			}
		}
		r := level.Reply(id, 200)
		if (level == HintsNone) != (r == nil) || r != nil && (r.Get(HintStatus) != "200" || r.Get(HintID) != id.String() || len(r) != 2) {
			t.Errorf("%s reply: %v", level, r)
		}
		if level.Reply(id, 0) != nil {
			t.Errorf("%s: hints without a status", level)
		}
	}
	for _, bad := range []Hints{"", "FULL", "all"} {
		if bad.Validate() == nil {
			t.Errorf("%q is valid", bad)
		}
	}
	if Hints("FULL").Request(id, hintHead()) != nil {
		t.Error("an unknown level sends hints")
	}
}

// What a caller chooses cannot break out of a NATS header or make the message too large.
func TestHintsAreBounded(t *testing.T) {
	head := hintHead()
	head.Path = "/" + strings.Repeat("a", maxHintPath)
	for _, trace := range []string{"a\r\nObo-Path: /evil", "a b", "\x00", "é", strings.Repeat("a", 129)} {
		head.Header.Set(HintTrace, trace)
		h := HintsFull.Request(fixedID("request"), head)
		if _, ok := h[HintTrace]; ok || len(h[HintPath]) != 0 {
			t.Errorf("trace %q: %v", trace, h)
		}
		if err := CheckHints(h, fixedID("request"), head); err != nil {
			t.Error(err)
		}
	}
}

// Whatever hints come, an accepted set contradicts nothing: what a person reads under those names is the truth.
func FuzzHints(f *testing.F) {
	f.Fuzz(func(t *testing.T, name, first, second string, two bool) {
		values := []string{first}
		if two {
			values = append(values, second)
		}
		head, id := hintHead(), fixedID("request")
		if CheckHints(nats.Header{name: values}, id, head) != nil {
			return
		}
		for hint, truth := range map[string]string{HintID: id.String(), HintMethod: head.Method, HintPath: head.Path, HintTrace: traceparent, HintStatus: ""} {
			if strings.EqualFold(name, hint) && (two || first != truth || hint == HintStatus) {
				t.Errorf("%q: %q is accepted", name, values)
			}
		}
		for level := range map[Hints]bool{HintsFull: true, HintsMinimal: true} {
			head.Header.Set(HintTrace, first)
			head.Method, head.Path = "GET", "/"
			if err := CheckHints(level.Request(id, head), id, head); err != nil {
				t.Errorf("our own hints are refused: %v", err)
			}
		}
	})
}
