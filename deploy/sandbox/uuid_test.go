package sandbox

import (
	"regexp"
	"testing"
)

func TestUUIDs(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, id := range []string{newUUID(), uuidFrom("a")} {
		if !form.MatchString(id) {
			t.Errorf("%q is no UUID", id)
		}
	}
	first, second := newUUID(), newUUID()
	a, again, b := uuidFrom("a"), uuidFrom("a"), uuidFrom("b")
	if first == second || a != again || a == b {
		t.Error("random ones must differ, derived ones must not")
	}
}
