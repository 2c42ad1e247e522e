package relay

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

type headVectors struct {
	Comment string     `json:"comment"`
	Cases   []headCase `json:"cases"`
}

type headCase struct {
	Name     string `json:"name"`
	Document string `json:"document"` // type constant
	JSON     string `json:"json"`
	Want     string `json:"want"`             // ok or refused
	Header   string `json:"header,omitempty"` // the bytes of the field X-Bytes, hex
}

// headCases are the examples of the schemas, as one file for other implementations, and what only bytes can say.
func headCases(t testing.TB) headVectors {
	v := headVectors{Comment: "PROTOCOL.md section 9: the JSON of heads and ends. More stand in schemas/examples."}
	head := string(encode(t, hintHead()))
	add := func(name, document, json, want, header string) {
		v.Cases = append(v.Cases, headCase{name, document, json, want, header})
	}
	header := func(value string) string {
		return strings.Replace(head, `"Traceparent":["`+traceparent+`"]`, `"X-Bytes":["`+value+`"]`, 1)
	}
	add("request", RequestHeadTypeName, head, "ok", "")
	add("header of ASCII", RequestHeadTypeName, header("abc"), "ok", "616263")
	add("header of bytes", RequestHeadTypeName, header("caf\u00e9\u0080\u00ff"), "ok", "636166e980ff")
	add("header of bytes, escaped", RequestHeadTypeName, header(`caf\u00e9\u0001`), "ok", "636166e901")
	add("header over U+00FF", RequestHeadTypeName, header("\u0100"), "refused", "")
	add("header with a surrogate pair", RequestHeadTypeName, header(`\ud83d\ude00`), "refused", "")
	add("header with a lone surrogate", RequestHeadTypeName, header(`\ud83d`), "refused", "")
	add("header with CR", RequestHeadTypeName, header(`a\rb`), "refused", "")
	add("header with LF", RequestHeadTypeName, header(`a\nb`), "refused", "")
	add("header with NUL", RequestHeadTypeName, header(`a\u0000b`), "refused", "")
	add("member twice", RequestHeadTypeName, strings.Replace(head, `{`, `{"method":"GET",`, 1), "refused", "")
	add("member in upper case", RequestHeadTypeName, strings.Replace(head, `"method"`, `"Method"`, 1), "refused", "")
	add("member unknown", RequestHeadTypeName, strings.Replace(head, `{`, `{"x":1,`, 1), "refused", "")
	add("field twice", RequestHeadTypeName, strings.Replace(head, `"header":{`, `"header":{"A":["1"],"A":["2"],`, 1), "refused", "")
	add("tail", RequestHeadTypeName, head+"{}", "refused", "")
	add("not JSON", RequestHeadTypeName, "GET / HTTP/1.1", "refused", "")
	add("reply", ReplyHeadTypeName, `{"status":200,"header":{},"length":-1}`, "ok", "")
	add("reply status 99", ReplyHeadTypeName, `{"status":99,"header":{},"length":-1}`, "refused", "")
	add("reply status a text", ReplyHeadTypeName, `{"status":"200","header":{},"length":-1}`, "refused", "")
	add("reply status a fraction", ReplyHeadTypeName, `{"status":200.5,"header":{},"length":-1}`, "refused", "")
	add("end", EndTypeName, `{}`, "ok", "")
	add("end with bytes", EndTypeName, "{\"trailer\":{\"X-Bytes\":[\"\u00ff\"]}}", "ok", "ff")
	add("end, empty", EndTypeName, ``, "refused", "")
	for name, document := range map[string]string{"request": RequestHeadTypeName, "reply": ReplyHeadTypeName, "end": EndTypeName} {
		add(name+", null", document, ` null`, "refused", "")
		add(name+", an array", document, `[]`, "refused", "")
	}
	sortCases(v.Cases[len(v.Cases)-6:], func(c headCase) string { return c.Name })
	return v
}

func TestHeadVectors(t *testing.T) {
	decoders := map[string]func([]byte) (http.Header, error){
		RequestHeadTypeName: func(b []byte) (http.Header, error) {
			h, err := DecodeRequestHead(b)
			if err != nil {
				return nil, err
			}
			return h.Header, h.Check()
		},
		ReplyHeadTypeName: func(b []byte) (http.Header, error) {
			h, err := DecodeReplyHead(b)
			if err != nil {
				return nil, err
			}
			return h.Header, nil
		},
		EndTypeName: func(b []byte) (http.Header, error) {
			e, err := DecodeEnd(b)
			if err != nil {
				return nil, err
			}
			return e.Trailer, nil
		},
	}
	for _, c := range vectors(t, "heads.json", headCases(t)).Cases {
		h, err := decoders[c.Document]([]byte(c.JSON))
		if (err == nil) != (c.Want == "ok") {
			t.Errorf("%s: %v", c.Name, err)
		}
		if c.Header != "" && h.Get("X-Bytes") != string(unhex(t, c.Header)) {
			t.Errorf("%s: %q", c.Name, h)
		}
	}
}

func TestDecodedHeadersCanBeSet(t *testing.T) {
	for _, header := range []string{``, `,"header":null`, `,"header":{}`} {
		request, err := DecodeRequestHead([]byte(`{"length":0` + header + `}`))
		if err != nil {
			t.Fatalf("request %s: %v", header, err)
		}
		reply, err := DecodeReplyHead([]byte(`{"status":200` + header + `}`))
		if err != nil {
			t.Fatalf("reply %s: %v", header, err)
		}
		request.Header.Set("A", "b")
		reply.Header.Set("A", "b")
	}
}

// A member that is null is empty (PROTOCOL.md §3), also the one whose values are read token by token. A field's list and
// its values are no members.
func TestNullMembers(t *testing.T) {
	if end, err := DecodeEnd([]byte(`{"trailer":null,"failure":null}`)); err != nil || len(end.Trailer) != 0 || end.Failure != nil {
		t.Errorf("%+v %v", end, err)
	}
	for _, header := range []string{`{"A":null}`, `{"A":[null]}`, `[]`, `"A"`, `0`, `true`} {
		if _, err := DecodeRequestHead([]byte(`{"header":` + header + `}`)); err == nil {
			t.Errorf("header %s passed", header)
		}
	}
}

func TestEncodeHead(t *testing.T) {
	big := &ReplyHead{Status: 200, Header: http.Header{"A": {strings.Repeat("a", MaxHead)}}}
	if _, err := EncodeHead(big); !errors.Is(err, CodeHeadTooLarge) {
		t.Errorf("too large: %v", err)
	}
	// The limit holds for the JSON: bytes over 0x7f take two.
	if _, err := EncodeHead(&ReplyHead{Status: 200, Header: http.Header{"A": {strings.Repeat("\xff", MaxHead*2/3)}}}); !errors.Is(err, CodeHeadTooLarge) {
		t.Errorf("too large in bytes: %v", err)
	}
	if _, err := EncodeHead(&RequestHead{Query: canary + "\xff"}); !errors.Is(err, CodeBadRequest) || strings.Contains(err.Error(), canary) {
		t.Errorf("invalid UTF-8: %v", err)
	}
	for _, v := range []any{&RequestHead{}, &ReplyHead{}} {
		if b, err := EncodeHead(v); err != nil || !strings.Contains(string(b), `"header":{}`) {
			t.Errorf("no header: %s %v", b, err)
		}
	}
	if b, err := EncodeHead(&End{}); err != nil || string(b) != "{}" {
		t.Errorf("%s %v", b, err)
	}
}

func TestCheckQuotesNothing(t *testing.T) {
	for _, h := range []*RequestHead{
		{Method: canary + " "}, {Method: "GET", TimeoutMS: 1, Query: canary + "#", Path: "/"}, {Method: "GET", TimeoutMS: 1, Path: canary},
		{Method: "GET", TimeoutMS: 1, Path: "/", Header: http.Header{canary: {"a"}}}, {Method: "GET", TimeoutMS: 1, Path: "/", Header: http.Header{"A": {canary + "\n"}}},
		{Method: "GET", TimeoutMS: 1, Path: "/", Trailer: []string{canary}},
	} {
		if err := h.Check(); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%v", err)
		}
	}
}

func TestMethods(t *testing.T) {
	for m, want := range map[string]bool{
		"GET": true, "PROPFIND": true, "get": true, "M-SEARCH": true, "!#$%&'*+-.^_`|~": true, strings.Repeat("A", 32): true,
		"": false, "CONNECT": false, "GET ": false, "GE T": false, "GET\r\n": false, "GÉT": false, "A/B": false, "(": false, strings.Repeat("A", 33): false,
	} {
		if ValidMethod(m) != want {
			t.Errorf("ValidMethod(%q) = %v", m, !want)
		}
	}
	for m, want := range map[string]bool{"GET": true, "HEAD": true, "OPTIONS": true, "TRACE": true, "get": false, "POST": false, "PUT": false, "DELETE": false, "PROPFIND": false, "": false} {
		if SafeMethod(m) != want {
			t.Errorf("SafeMethod(%q) = %v", m, !want)
		}
	}
}

func TestSplitHead(t *testing.T) {
	for in, want := range map[string][2]string{
		"\x00\x00\x00\x02{}": {"{}", ""}, "\x00\x00\x00\x02{}body": {"{}", "body"}, "\x00\x00\x00\x00body": {"", "body"},
	} {
		if head, body, err := splitHead([]byte(in)); err != nil || string(head) != want[0] || string(body) != want[1] {
			t.Errorf("%q: %q %q %v", in, head, body, err)
		}
	}
	for _, in := range []string{"", "\x00", "\x00\x00\x00", "\x00\x00\x00\x01", "\xff\xff\xff\xff{}", "\x80\x00\x00\x00", "\x00\x00\x80\x01" + strings.Repeat("a", MaxHead+1)} {
		if _, _, err := splitHead([]byte(in)); err == nil {
			t.Errorf("%.10q: split", in)
		}
	}
}
