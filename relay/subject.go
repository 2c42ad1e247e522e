package relay

import (
	"fmt"
	"strings"
)

// Subjects builds and parses NATS subjects under one prefix (PROTOCOL.md §4). The zero value is not usable; see
// NewSubjects.
type Subjects struct{ root string }

// NewSubjects returns the grammar under the given prefix, which may be empty.
func NewSubjects(prefix string) (Subjects, error) {
	if prefix == "" {
		return Subjects{"obo.v1."}, nil
	}
	if len(prefix) > 64 || !prefixPattern.MatchString(prefix) {
		return Subjects{}, fmt.Errorf("subject prefix %q: want 1 to 64 characters of A-Z a-z 0-9 _ - in tokens joined by dots, the first no _", prefix)
	}
	return Subjects{prefix + ".obo.v1."}, nil
}

// Root is the subject that all others begin with, without its final dot.
func (s Subjects) Root() string { return strings.TrimSuffix(s.root, ".") }

// Announce is where workers of a service announce themselves.
func (s Subjects) Announce(service string) string { return s.root + "announce." + service }

// Discover is where a publisher asks workers to announce themselves now.
func (s Subjects) Discover(service string) string { return s.root + "discover." + service }

// Request is where an app sends the first frame of a request to one worker process.
func (s Subjects) Request(service, instance, app string) string {
	return s.root + "req." + service + "." + instance + "." + app
}

// Control is where an app sends the later frames of a request.
func (s Subjects) Control(service, instance, app string, id ID) string {
	return s.root + "ctl." + service + "." + instance + "." + app + "." + id.String()
}

// Reply is where a worker sends the frames of a reply.
func (s Subjects) Reply(app string, inbox, id ID) string {
	return s.root + "rep." + app + "." + inbox.String() + "." + id.String()
}

// Inbox is the subscription that sees all replies to one publisher.
func (s Subjects) Inbox(app string, inbox ID) string {
	return s.root + "rep." + app + "." + inbox.String() + ".*"
}

// Worker is the one subscription of a worker process.
func (s Subjects) Worker(service, instance string) string {
	return s.root + "*." + service + "." + instance + ".>"
}

// Kind says what a parsed subject is for.
type Kind int

// The kinds of subject.
const (
	KindOther Kind = iota
	KindAnnounce
	KindDiscover
	KindRequest
	KindControl
	KindReply
)

// Address is a parsed subject. Members that its kind does not have are zero.
type Address struct {
	Kind                   Kind
	Service, Instance, App string
	Inbox, ID              ID
}

// Parse reads a subject; whatever does not fit the grammar exactly is KindOther.
func (s Subjects) Parse(subject string) Address {
	rest, ok := strings.CutPrefix(subject, s.root)
	if !ok || len(subject) > 512 {
		return Address{}
	}
	kind, rest, _ := strings.Cut(rest, ".")
	var a, b, c, d, extra string
	a, rest, _ = strings.Cut(rest, ".")
	b, rest, _ = strings.Cut(rest, ".")
	c, rest, _ = strings.Cut(rest, ".")
	d, extra, _ = strings.Cut(rest, ".")
	if extra != "" || strings.HasSuffix(subject, ".") {
		return Address{}
	}
	switch kind {
	case "announce", "discover":
		if b+c+d != "" || !ValidName(a) {
			return Address{}
		}
		if kind == "announce" {
			return Address{Kind: KindAnnounce, Service: a}
		}
		return Address{Kind: KindDiscover, Service: a}
	case "req", "ctl":
		if !ValidName(a) || !ValidInstance(b) || !ValidName(c) {
			return Address{}
		}
		out := Address{Service: a, Instance: b, App: c}
		if kind == "req" {
			if d != "" {
				return Address{}
			}
			out.Kind = KindRequest
			return out
		}
		id, ok := ParseID(d)
		if !ok {
			return Address{}
		}
		out.Kind, out.ID = KindControl, id
		return out
	case "rep":
		inbox, ok1 := ParseID(b)
		id, ok2 := ParseID(c)
		if !ValidName(a) || !ok1 || !ok2 || d != "" {
			return Address{}
		}
		return Address{Kind: KindReply, App: a, Inbox: inbox, ID: id}
	}
	return Address{}
}
