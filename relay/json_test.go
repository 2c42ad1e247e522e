package relay

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestDecodeBase64IsCanonical(t *testing.T) {
	for s, ok := range map[string]bool{
		"": true, "AA": true, "AAA": true, "AAAA": true, "-_-_": true,
		"A": false, "AB": false, "AAB": false, "AA==": false, "AA=": false, "A A": false, "AA\n": false, "\nAA": false, "A\rA": false, "AA\r\n": false,
		"+/+/": false, "AAAAA": false, "é": false, "AA.": false, "A\x00A": false,
	} {
		b, err := decodeBase64(s)
		if (err == nil) != ok || ok && encodeBase64(b) != s {
			t.Errorf("%q: %x %v", s, b, err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 { // whatever decodes re-encodes to itself
		b := make([]byte, r.IntN(8))
		for i := range b {
			b[i] = "ABab09-_=\n\r +/."[r.IntN(15)]
		}
		if out, err := decodeBase64(string(b)); err == nil && encodeBase64(out) != string(b) {
			t.Fatalf("%q decodes and re-encodes as %q", b, encodeBase64(out))
		}
	}
}

// Decoders quote their input; our errors do not, beyond 64 bytes of a member's name.
func TestJSONErrorsQuoteNoValues(t *testing.T) {
	var v struct {
		A int               `json:"a"`
		M map[string]string `json:"m"`
	}
	for _, doc := range []string{
		`{"a":"` + canary + `"}`, canary, `{"a":` + canary, `{"m":{"k":` + canary + `}}`, `"` + canary + `"`, `{"a":1}` + canary, `{"a":1,"a":"` + canary + `"}`,
		`{"m":{"k":"` + canary, `{"a":1.5e` + canary + `}`, "{\"m\":{\"k\":\"" + canary + "\xff\"}}",
	} {
		err := unmarshalStrict([]byte(doc), &v)
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", doc, err)
		}
	}
	if err := unmarshalStrict([]byte(`{"`+strings.Repeat("x", 500)+`":1}`), &v); err == nil || len(err.Error()) > 150 {
		t.Errorf("a long name: %v", err)
	}
	if err := unmarshalStrict([]byte(`{"m":{"k":1}}`), &v); err == nil || !strings.Contains(err.Error(), "/m/k") {
		t.Errorf("the place is not named: %v", err)
	}
}

func TestPrettyJSON(t *testing.T) {
	b, err := PrettyJSON(map[string]int{"b": 1, "a": 2})
	if err != nil || string(b) != "{\n  \"a\": 2,\n  \"b\": 1\n}\n" {
		t.Errorf("%s %v", b, err)
	}
	if _, err := PrettyJSON(func() {}); err == nil {
		t.Error("a function was rendered")
	}
}
