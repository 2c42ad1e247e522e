package worker

import (
	"fmt"
	"strings"
)

// Warnings are what is allowed in a policy but may not be meant: a rule that keeps people from a path with some methods,
// while a more general one lets more people use all the others there.
func (p *Policy) Warnings() []string {
	var out []string
	for _, r := range p.rules {
		if r.method == "" || r.anyone {
			continue
		}
		other := p.find(unusedMethod, r.sample())
		if other == nil || other.deny || !r.deny && !other.anyone {
			continue
		}
		out = append(out, fmt.Sprintf("line %d, %s, is about its method only: with another method line %d, %s, decides, which allows it to %s",
			r.line, r.match, other.line, other.match, other.whom()))
	}
	return out
}

// unusedMethod stands for the methods that no rule names.
const unusedMethod = "OBO-OTHER"

// sample is a path that the pattern matches.
func (p *pattern) sample() string {
	var b strings.Builder
	for _, n := range p.names {
		if n == "" {
			n = "obo-sample"
		}
		b.WriteString("/" + n)
	}
	if p.end != endsBare || b.Len() == 0 {
		b.WriteString("/")
	}
	return b.String()
}

// whom is the audience in words, for anyone too.
func (r *rule) whom() string {
	if r.anyone {
		return "anyone"
	}
	return r.audience()
}
