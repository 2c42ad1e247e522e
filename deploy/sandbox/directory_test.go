package sandbox

import (
	"reflect"
	"strconv"
	"testing"
)

func TestMembershipsAreDirectThenNearest(t *testing.T) {
	d := newDirectory(Config{Groups: []Group{
		{Name: "team", ID: "1", MemberOf: []string{"division", "circle"}},
		{Name: "division", ID: "2", MemberOf: []string{"company"}},
		{Name: "circle", ID: "3", MemberOf: []string{"team", "circle"}},
	}})
	company := numericID("group company")
	got := d.memberships([]string{"team", "team", "division"})
	want := []membership{
		{"team", "1", true}, {"division", "2", true}, {"circle", "3", false}, {"company", company, false},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := d.memberships(nil); got != nil {
		t.Errorf("nobody's groups: %v", got)
	}
}

func TestDirectoryDefaults(t *testing.T) {
	d := newDirectory(Config{Users: []User{{UserName: "a@example.com"}}})
	p, ok := d.lookup("a@example.com")
	if !ok || p.displayName != "a@example.com" || len(p.emails) != 1 || p.emails[0] != "a@example.com" {
		t.Errorf("%+v", p)
	}
	if _, ok := d.lookup("b@example.com"); ok {
		t.Error("found a stranger")
	}
	if err := d.change("b@example.com", func(*principal) {}); err == nil {
		t.Error("changed a stranger")
	}
}

func TestNumericIDLooksLikeThePlatforms(t *testing.T) {
	for _, name := range []string{"", "a", "alice@example.com"} {
		id := numericID(name)
		if _, err := strconv.ParseUint(id, 10, 53); err != nil || len(id) != 15 {
			t.Errorf("%q: id %q: %v", name, id, err)
		}
	}
}
