package relay

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "0": true, "ui": true, "my-app-2": true, "a--b": true, strings.Repeat("a", 63): true,
		"": false, "-": false, "-a": false, "a-": false, "A": false, "a_b": false, "a.b": false, "a b": false, "a\n": false, "\na": false,
		"é": false, "*": false, ">": false, strings.Repeat("a", 64): false,
	} {
		if ValidName(name) != want {
			t.Errorf("ValidName(%q) = %v", name, !want)
		}
	}
}

func TestID(t *testing.T) {
	id := NewID()
	if id == NewID() {
		t.Error("two ids are equal")
	}
	if got, ok := ParseID(id.String()); !ok || got != id || len(id.String()) != 26 {
		t.Errorf("%s does not parse to itself", id)
	}
	good := fixedID("request").String()
	for _, bad := range []string{
		"", good[:25], good + "a", strings.ToUpper(good), good[:25] + "b", good[:25] + "1", good[:25] + "\n", good[:24] + "\r\n", good[:25] + "=", "\n" + good[1:],
	} {
		if _, ok := ParseID(bad); ok {
			t.Errorf("ParseID(%q) is ok", bad)
		}
	}
	b, err := json.Marshal(map[string]ID{"id": id})
	if err != nil || string(b) != `{"id":"`+id.String()+`"}` {
		t.Errorf("%s %v", b, err)
	}
	out := fixedID("other")
	if json.Unmarshal([]byte(`"`+good[:25]+`b"`), &out) == nil || out != fixedID("other") {
		t.Error("a malformed id was read, or changed its target")
	}
}

func TestInstance(t *testing.T) {
	a, b := NewInstance(), NewInstance()
	if a == b || !ValidInstance(a) || !ValidInstance(b) {
		t.Errorf("%q %q", a, b)
	}
	for _, bad := range []string{"", a[1:], a + "a", strings.ToUpper(a[:15]) + "A", a[:15] + "1", a[:15] + ".", a[:15] + "\n", strings.Repeat("\x00", 16)} {
		if ValidInstance(bad) {
			t.Errorf("ValidInstance(%q)", bad)
		}
	}
}
