package sandbox

import "testing"

func TestState(t *testing.T) {
	clock := newTestClock()
	s, other := newStates(clock.Now), newStates(clock.Now)
	parameter, nonce := s.seal("/page?x=1", "")
	again, same := s.seal("/second", nonce)
	foreign, _ := other.seal("/", nonce)
	if same != nonce {
		t.Error("a second tab got a nonce of its own")
	}
	if next, ok := s.open(parameter, nonce); !ok || next != "/page?x=1" {
		t.Errorf("%q %t", next, ok)
	}
	if next, ok := s.open(again, nonce); !ok || next != "/second" {
		t.Errorf("%q %t", next, ok)
	}
	for name, c := range map[string][2]string{
		"another browser": {parameter, "x"}, "no browser": {parameter, ""}, "nothing": {"", nonce},
		"not ours": {foreign, nonce}, "altered": {flip(parameter), nonce}, "cut": {parameter[:20], nonce},
	} {
		if next, ok := s.open(c[0], c[1]); ok {
			t.Errorf("%s: opened, %q", name, next)
		}
	}
	clock.Advance(stateLifetime)
	if _, ok := s.open(parameter, nonce); ok {
		t.Error("an old one opened")
	}
}

// flip changes the first character.
func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}
