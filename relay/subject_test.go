package relay

import (
	"strings"
	"testing"
)

type subjectVectors struct {
	Comment string        `json:"comment"`
	Cases   []subjectCase `json:"cases"`
}

type subjectCase struct {
	Name     string `json:"name"`
	Prefix   string `json:"prefix"`
	Subject  string `json:"subject"`
	Kind     string `json:"kind"` // announce, discover, req, ctl, rep, or none
	Service  string `json:"service,omitempty"`
	Instance string `json:"instance,omitempty"`
	App      string `json:"app,omitempty"`
	Inbox    ID     `json:"inbox,omitzero"`
	ID       ID     `json:"id,omitzero"`
}

var kinds = map[string]Kind{
	"none": KindOther, "announce": KindAnnounce, "discover": KindDiscover, "req": KindRequest, "ctl": KindControl, "rep": KindReply,
}

func subjectCases() subjectVectors {
	id, inbox := fixedID("request"), fixedID("inbox")
	long := strings.Repeat("a", 63)
	v := subjectVectors{Comment: "PROTOCOL.md sections 3 and 4. kind none: the subject is not of the grammar."}
	add := func(c subjectCase) { v.Cases = append(v.Cases, c) }
	for _, prefix := range []string{"", "dev", "acme.Dev_1-2"} {
		p := "obo.v1."
		if prefix != "" {
			p = prefix + ".obo.v1."
		}
		in := "with prefix " + prefix + ": "
		add(subjectCase{in + "announce", prefix, p + "announce.middleware", "announce", "middleware", "", "", ID{}, ID{}})
		add(subjectCase{in + "discover", prefix, p + "discover.middleware", "discover", "middleware", "", "", ID{}, ID{}})
		add(subjectCase{in + "req", prefix, p + "req.middleware." + instanceID + ".ui", "req", "middleware", instanceID, "ui", ID{}, ID{}})
		add(subjectCase{in + "ctl", prefix, p + "ctl.middleware." + instanceID + ".ui." + id.String(), "ctl", "middleware", instanceID, "ui", ID{}, id})
		add(subjectCase{in + "rep", prefix, p + "rep.ui." + inbox.String() + "." + id.String(), "rep", "", "", "ui", inbox, id})
	}
	add(subjectCase{"longest names", "", "obo.v1.req." + long + "." + instanceID + "." + long, "req", long, instanceID, long, ID{}, ID{}})
	add(subjectCase{"one-letter names", "", "obo.v1.req.a." + instanceID + ".0", "req", "a", instanceID, "0", ID{}, ID{}})
	none := func(name, subject string) { add(subjectCase{name, "", subject, "none", "", "", "", ID{}, ID{}}) }
	req, ctl, rep := "obo.v1.req.middleware."+instanceID+".ui", "obo.v1.ctl.middleware."+instanceID+".ui."+id.String(), "obo.v1.rep.ui."+inbox.String()+"."+id.String()
	none("nothing", "")
	none("root", "obo.v1")
	none("root with a dot", "obo.v1.")
	none("another version", strings.Replace(req, "v1", "v2", 1))
	none("upper-case root", strings.Replace(req, "obo", "OBO", 1))
	none("a prefix that is not ours", "dev."+req)
	none("purge", "$JS.API.STREAM.PURGE.S")
	none("inbox", "_INBOX.abc.def")
	none("unknown kind", "obo.v1.stats.middleware")
	none("kind in upper case", strings.Replace(req, "req", "REQ", 1))
	for what, good := range map[string]string{"announce": "obo.v1.announce.middleware", "discover": "obo.v1.discover.middleware", "req": req, "ctl": ctl, "rep": rep} {
		none(what+", one token more", good+".x")
		none(what+", a dot at the end", good+".")
		none(what+", two dots at the end", good+"..")
		none(what+", an empty token inside", strings.Replace(good, "v1.", "v1..", 1))
		none(what+", an empty token and more", good+"..x")
		none(what+", one token less", good[:strings.LastIndexByte(good, '.')])
		none(what+", wildcard", good[:strings.LastIndexByte(good, '.')]+".*")
		none(what+", full wildcard", good[:strings.LastIndexByte(good, '.')]+".>")
		none(what+", space at the end", good+" ")
		none(what+", line break at the end", good+"\n")
		none(what+", NUL at the end", good+"\x00")
	}
	none("name of 64", "obo.v1.announce."+long+"a")
	none("name with a dash in front", "obo.v1.announce.-a")
	none("name with a dash at the end", "obo.v1.announce.a-")
	none("name in upper case", "obo.v1.announce.Middleware")
	none("name with an underscore", "obo.v1.announce.middle_ware")
	none("name that is not ASCII", "obo.v1.announce.mïddleware")
	none("instance of 15", strings.Replace(req, instanceID, instanceID[1:], 1))
	none("instance of 17", strings.Replace(req, instanceID, instanceID+"a", 1))
	none("instance in upper case", strings.Replace(req, instanceID, strings.ToUpper(instanceID), 1))
	none("instance with 1", strings.Replace(req, instanceID, instanceID[1:]+"1", 1))
	none("id of 25", ctl[:len(ctl)-1])
	none("id with spare bits", ctl[:len(ctl)-1]+"b")
	none("id in upper case", strings.Replace(ctl, id.String(), strings.ToUpper(id.String()), 1))
	none("id padded", ctl+"======")
	none("inbox with spare bits", strings.Replace(rep, inbox.String(), inbox.String()[:25]+"b", 1))
	none("app in place of inbox", "obo.v1.rep.ui.ui."+id.String())
	none("longer than 512", "obo.v1.announce."+strings.Repeat("a", 600))
	sortCases(v.Cases, func(c subjectCase) string { return c.Name })
	return v
}

func TestSubjectVectors(t *testing.T) {
	for _, c := range vectors(t, "subjects.json", subjectCases()).Cases {
		t.Run(c.Name, func(t *testing.T) {
			s, err := NewSubjects(c.Prefix)
			if err != nil {
				t.Fatal(err)
			}
			want := Address{kinds[c.Kind], c.Service, c.Instance, c.App, c.Inbox, c.ID}
			got := s.Parse(c.Subject)
			if got != want {
				t.Errorf("Parse(%q) = %+v, want %+v", c.Subject, got, want)
			}
			if got.Kind != KindOther && build(s, got) != c.Subject {
				t.Errorf("%q is built again as %q", c.Subject, build(s, got))
			}
		})
	}
}

// build is the inverse of Parse.
func build(s Subjects, a Address) string {
	switch a.Kind {
	case KindAnnounce:
		return s.Announce(a.Service)
	case KindDiscover:
		return s.Discover(a.Service)
	case KindRequest:
		return s.Request(a.Service, a.Instance, a.App)
	case KindControl:
		return s.Control(a.Service, a.Instance, a.App, a.ID)
	case KindReply:
		return s.Reply(a.App, a.Inbox, a.ID)
	}
	return ""
}

func TestSubscriptions(t *testing.T) {
	s, err := NewSubjects("dev")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Root(); got != "dev.obo.v1" {
		t.Errorf("Root() = %s", got)
	}
	if got := s.Worker("middleware", instanceID); got != "dev.obo.v1.*.middleware."+instanceID+".>" {
		t.Errorf("Worker() = %s", got)
	}
	if got := s.Inbox("ui", fixedID("inbox")); got != "dev.obo.v1.rep.ui."+fixedID("inbox").String()+".*" {
		t.Errorf("Inbox() = %s", got)
	}
}

func TestNewSubjects(t *testing.T) {
	for prefix, ok := range map[string]bool{
		"": true, "a": true, "A-b_c.9": true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, ".": false, "a.": false, ".a": false,
		"a..b": false, "*": false, "a.>": false, "$SYS": false, "a b": false, "a\n": false, "é": false, "_INBOX": false, "a._b": true,
	} {
		if _, err := NewSubjects(prefix); (err == nil) != ok {
			t.Errorf("NewSubjects(%q): %v", prefix, err)
		}
	}
}

func FuzzSubject(f *testing.F) {
	f.Fuzz(func(t *testing.T, subject string) {
		for _, prefix := range []string{"", "dev"} {
			s, _ := NewSubjects(prefix)
			if a := s.Parse(subject); a.Kind != KindOther && build(s, a) != subject {
				t.Errorf("%q is built again as %q", subject, build(s, a))
			} else if a.Kind == KindOther && a != (Address{}) {
				t.Errorf("%q: kind other with %+v", subject, a)
			}
		}
	})
}
