package worker

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/obo-relay/obo-relay/relay"
)

// PolicyTypeName is the type constant of a policy file, and the name of its JSON Schema.
const PolicyTypeName = "obo.v1.policy"

// Policy says who may do what. It is read from a YAML file (ReadPolicy):
//
//	type: obo.v1.policy
//	explain: true                       # a denial says which groups would have been enough; default false
//	rules:
//	  - match: GET /health
//	    anyone: true                    # every person whose token the workspace knows
//	  - match: /reports/
//	    groups: [analysts, data-admins] # any of them; names as the workspace displays them, letter by letter
//	    users: [carol@example.com]      # or any of these user names
//	  - match: /reports/raw/
//	    deny: true                      # nobody
//
// What no rule names is denied.
//
// A match is a pattern of http.ServeMux without a host: an optional method, and a path in which {name} stands for one
// segment, and {name...} or a slash at the end for all the rest, also for nothing; {$} ends a pattern after a slash. It
// is compared with the path that is forwarded, segment by segment after percent-decoding; the query does not count.
//
// # Which rule decides
//
// The most specific one, wherever it stands in the file: the one whose requests are a part of the other's. Of GET /a/ and
// /a/ that is the first, of /a/{x} and /a/b the second. Two rules of which neither is more specific, but that meet, are a
// fault of the file. A rule without a method is for every method; GET is for HEAD too, unless a HEAD rule names it.
//
// Servers differ in whether /a and /a/ are one thing. Where only one of the two is named (other than as a part of a
// tree), its rule is for both. Where both are, each has its own rule, except that a pattern with wildcards does not
// override a more literal one of the other form: of /{page} and /admin/ the second decides about /admin.
//
// # What no rule can allow
//
// With a policy, a method with a lower-case letter is denied, because some servers read get as GET, and so is a path with
// a semicolon, because some servers cut a segment off there. A method is the request line's: the headers that would
// override it, or the path, are removed. Letter case in paths is not folded. For an app behind a server that folds it,
// or that takes a method from a form field, name what is allowed, and do not deny parts of what is allowed.
//
// A Policy does not change and is safe for concurrent use.
type Policy struct {
	explain bool
	rules   []*rule // in the order of the file
	mux     *http.ServeMux
	byMatch map[string]*rule
	source  []byte // the file's content
}

// PolicyDecision is what a policy says of one request.
type PolicyDecision struct {
	Allowed bool
	Rule    string // the match of the rule that decided, empty if none did
	Line    int    // of that rule in the file, 0 if none did
	// Reason says for the operator which rule decided and why. It quotes the file and the person, not the request.
	Reason string

	hint string // what may be said to the person
}

// Decide says whether a person may use a method on a path. The path is percent-encoded, without a query, and has passed
// relay.CheckPath. A nil User is somebody whom nobody has verified: only rules for anyone allow it.
func (p *Policy) Decide(method, path string, u *User) PolicyDecision {
	if upper := strings.ToUpper(method); method != upper {
		return denial(nil, "the method is not in capitals, and some servers read it as "+upper)
	}
	if strings.Contains(path, ";") {
		return denial(nil, "the path holds a semicolon, where some servers cut a segment off")
	}
	rules := p.deciding(method, path)
	if len(rules) == 0 {
		return denial(nil, "no rule names it, and what no rule names is denied")
	}
	first := rules[0].decide(u)
	for _, r := range rules[1:] {
		if d := r.decide(u); !d.Allowed {
			return d
		}
	}
	return first
}

// refusal is what the person is told of a denial.
func (p *Policy) refusal(d PolicyDecision) *relay.Error {
	detail := "the policy of this service does not allow it"
	if p.explain {
		detail += ": " + d.hint
	}
	return relay.NewError(relay.CodeForbidden, detail)
}

// namesPeople reports whether a rule depends on who the person is.
func (p *Policy) namesPeople() bool {
	return slices.ContainsFunc(p.rules, func(r *rule) bool { return len(r.groups)+len(r.users) > 0 })
}

// Rules is the number of rules.
func (p *Policy) Rules() int { return len(p.rules) }

// rule is one rule of a policy.
type rule struct {
	pattern
	line   int
	groups []string
	users  []string
	anyone bool
	deny   bool
}

func (r *rule) decide(u *User) PolicyDecision {
	switch {
	case r.deny:
		return denial(r, "denies it to everybody")
	case r.anyone:
		return r.allow("allows it to anyone")
	case u == nil:
		return denial(r, "wants a certain person, and nobody has verified who this is")
	case slices.Contains(r.users, u.UserName):
		return r.allow("allows it to the user " + u.UserName)
	}
	for _, g := range r.groups {
		if slices.Contains(u.Groups, g) {
			return r.allow(fmt.Sprintf("allows it to the group %s, and %s is in it", g, u.UserName))
		}
	}
	return denial(r, fmt.Sprintf("allows it to %s; %s is none of them", r.audience(), u.UserName))
}

func (r *rule) allow(why string) PolicyDecision {
	return PolicyDecision{Allowed: true, Rule: r.match, Line: r.line, Reason: r.reason(why)}
}

func denial(r *rule, why string) PolicyDecision {
	if r == nil {
		return PolicyDecision{Reason: why, hint: why}
	}
	d := PolicyDecision{Rule: r.match, Line: r.line, Reason: r.reason(why), hint: "it is for certain users only"}
	switch {
	case r.deny:
		d.hint = "nobody may do it"
	case len(r.groups) == 1:
		d.hint = "it takes to be in the group " + r.groups[0]
	case len(r.groups) > 1:
		d.hint = "it takes to be in one of the groups " + strings.Join(r.groups, ", ")
	}
	return d
}

func (r *rule) reason(why string) string { return fmt.Sprintf("line %d, %s: %s", r.line, r.match, why) }

// audience is "the group a", "the groups a, b", "the users c, d" or both.
func (r *rule) audience() string {
	var parts []string
	add := func(what string, names []string) {
		switch len(names) {
		case 0:
		case 1:
			parts = append(parts, "the "+what+" "+names[0])
		default:
			parts = append(parts, "the "+what+"s "+strings.Join(names, ", "))
		}
	}
	add("group", r.groups)
	add("user", r.users)
	return strings.Join(parts, " and ")
}
