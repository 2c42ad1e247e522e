package relay

import (
	"bytes"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

type plainHead interface {
	readPlain(document string) bool
	appendPlain(b []byte) ([]byte, bool)
}

// plainIsTheSame holds the reader and the writer of plain heads against the library's, which every other head goes through.
// The two heads are empty; it reports whether the document is plain.
func plainIsTheSame(t *testing.T, document []byte, ours, theirs plainHead) bool {
	t.Helper()
	plain := ours.readPlain(string(document))
	err := unmarshalStrict(document, theirs)
	if plain && (err != nil || !reflect.DeepEqual(ours, theirs)) {
		t.Fatalf("%s: by hand %+v, by the library %+v, %v", document, ours, theirs, err)
	}
	if err != nil {
		return plain
	}
	if b, ok := theirs.appendPlain(nil); ok {
		if want, err := marshal(theirs); err != nil || !bytes.Equal(b, want) {
			t.Fatalf("by hand %s, by the library %s, %v", b, want, err)
		}
	}
	return plain
}

// An ordinary head goes the short way, in both directions; with nothing changed but one spelling it does not, or means the
// same.
func TestPlainHeads(t *testing.T) {
	request := hintHead()
	request.Header = http.Header{"Accept": {"*/*"}, "Cookie": {"a=1; b=2", "c"}, "X-Empty": {""}, "X-None": {}}
	request.Query, request.Trailer, request.Length = "a=1&b=%22", []string{"Expires", "Digest"}, -1
	reply := &ReplyHead{Status: 200, Header: http.Header{"Content-Type": {"text/html; charset=utf-8"}, "Date": {"Thu, 26 Nov 2026 18:00:00 GMT"}}, Length: 1024}
	var documents []string
	for _, h := range []plainHead{request, hintHead(), &RequestHead{}, reply, &ReplyHead{Status: 204}} {
		b, ok := h.appendPlain(nil)
		if !ok {
			t.Errorf("%+v is not written by hand", h)
		}
		fresh := reflect.New(reflect.TypeOf(h).Elem()).Interface().(plainHead)
		if !fresh.readPlain(string(b)) {
			t.Errorf("%s is not read by hand", b)
		}
		documents = append(documents, string(b))
	}
	changes := [][2]string{
		{`{`, `{ `}, {`,`, `, `}, {`:`, `: `}, {`}`, `}}`}, {`}`, ``}, {`"a=1`, `"\u0061=1`}, {`/html`, `\/html`}, {`200`, `0200`}, {`200`, `-0`}, {`200`, `2e2`},
		{`200`, `200.0`}, {`200`, `99999999999999999999`}, {`200`, `4294967496`}, {`-1`, `--1`}, {`-1`, `-`}, {`-1`, `null`}, {`-1`, `"1"`}, {`"Accept":["*/*"],`, ``},
		{`"Accept":`, `"Zccept":`}, {`"Cookie":`, `"Accept":`}, {`"Cookie":`, `"cookie":`}, {`["*/*"]`, `"*/*"`}, {`["*/*"]`, `null`}, {`["*/*"]`, `[]`}, {`["*/*"]`, `["*/*",]`},
		{`["*/*"]`, `[,"*/*"]`}, {`["*/*"]`, `["*/*""a"]`}, {`,"X-Empty":`, `"X-Empty":`}, {`"method"`, `"Method"`}, {`"path":`, `"method":`}, {`"trailer":["Expires","Digest"]`, `"trailer":[]`},
		{`"Expires"`, `null`}, {`"Expires"`, "\"\xff\""}, {`"Expires"`, "\"\u00ff\""}, {`"Expires"`, "\"\n\""}, {`"Expires"`, "\"\x7f\""}, {`"GET"`, `"GET`}, {`"GET"`, `GET`},
		{`"status"`, `"refusal":null,"status"`}, {`"length":1024`, `"length":1024,"refusal":null`}, {`"query":`, `"x":1,"query":`}, {`"query":"a=1&b=%22",`, ``},
	}
	for i, document := range documents {
		same := func(changed string) {
			if i < 3 {
				plainIsTheSame(t, []byte(changed), new(RequestHead), new(RequestHead))
			} else {
				plainIsTheSame(t, []byte(changed), new(ReplyHead), new(ReplyHead))
			}
		}
		for _, change := range changes {
			same(strings.Replace(document, change[0], change[1], 1))
		}
		for _, tail := range []string{" ", "}", "{}", "x"} {
			same(document + tail)
		}
	}
}
