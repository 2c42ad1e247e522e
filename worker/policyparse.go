package worker

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	maxPolicy = 1 << 20 // bytes of a policy file
	maxRules  = 1000
)

// ReadPolicy reads a policy file. Its error holds all faults of the file, one a line, each with file name and line.
func ReadPolicy(path string) (*Policy, error) {
	data, err := readPolicyFile(path)
	if err != nil {
		return nil, err
	}
	return ParsePolicy(path, data)
}

func readPolicyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxPolicy+1))
}

// ParsePolicy reads a policy. The name is the file's, for its faults.
func ParsePolicy(name string, data []byte) (*Policy, error) {
	r := &policyReader{name: name, mux: http.NewServeMux()}
	if err := checkMux(); err != nil {
		return nil, err
	}
	r.document(data)
	if len(r.faults) > 0 {
		return nil, r.joined()
	}
	p := &Policy{explain: r.explain, rules: r.rules, mux: r.mux, byMatch: map[string]*rule{}, source: bytes.Clone(data)}
	for _, rule := range r.rules {
		p.byMatch[rule.match] = rule
	}
	return p, nil
}

// policyReader collects rules and faults.
type policyReader struct {
	name    string
	explain bool
	rules   []*rule
	mux     *http.ServeMux
	faults  []policyFault
}

type policyFault struct {
	line int
	text string
}

func (r *policyReader) fault(line int, format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	r.faults = append(r.faults, policyFault{line, text})
}

func (r *policyReader) joined() error {
	slices.SortStableFunc(r.faults, func(a, b policyFault) int { return cmp.Compare(a.line, b.line) })
	all := make([]error, len(r.faults))
	for i, f := range r.faults {
		all[i] = fmt.Errorf("%s:%d: %s", r.name, f.line, f.text)
	}
	return errors.Join(all...)
}

// document reads the one document of a file.
func (r *policyReader) document(data []byte) {
	if len(data) > maxPolicy {
		r.fault(1, "the file is over the limit of %d bytes", maxPolicy)
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		r.fault(1, "the file is empty: want type: %s and rules", PolicyTypeName)
		return
	case err != nil:
		r.fault(yamlLine(err), "%s", strings.TrimPrefix(err.Error(), "yaml: "))
		return
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		r.fault(max(more.Line, 1), "the file holds a second document, which would be ignored")
	}
	if !r.plain(&doc) {
		return
	}
	r.top(doc.Content[0])
}

// yamlLine takes the line out of "yaml: line 7: …".
func yamlLine(err error) int {
	line := 1
	_, _ = fmt.Sscanf(err.Error(), "yaml: line %d:", &line)
	return line
}

// plain refuses the parts of YAML by which a file can say other than it seems to: aliases, anchors and tags.
func (r *policyReader) plain(n *yaml.Node) bool {
	faults := len(r.faults)
	switch {
	case n.Kind == yaml.AliasNode:
		r.fault(n.Line, "aliases (*%s) are not allowed: write it out", n.Value)
		return false // what it stands for is elsewhere in the tree, perhaps around it
	case n.Anchor != "":
		r.fault(n.Line, "anchors (&%s) are not allowed: write it out", n.Anchor)
	case n.Style&yaml.TaggedStyle != 0:
		r.fault(n.Line, "tags (%s) are not allowed", n.Tag)
	}
	for _, c := range n.Content {
		r.plain(c)
	}
	return len(r.faults) == faults
}

// members returns the values of a mapping by their keys, and notes what is no mapping, and unknown and repeated keys.
func (r *policyReader) members(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		r.fault(n.Line, "%s: want %s", what, strings.Join(known, ", "))
		return nil
	}
	found := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode || !slices.Contains(known, key.Value):
			r.fault(key.Line, "unknown key %q: want %s", key.Value, strings.Join(known, ", "))
		case found[key.Value] != nil:
			r.fault(key.Line, "the key %s is there twice", key.Value)
		default:
			found[key.Value] = n.Content[i+1]
		}
	}
	return found
}

func (r *policyReader) top(n *yaml.Node) {
	top := r.members(n, "the file", "type", "explain", "rules")
	if top == nil {
		return
	}
	if t := top["type"]; t == nil {
		r.fault(n.Line, "type is missing: want type: %s", PolicyTypeName)
	} else if text, ok := r.text(t, "type"); ok && text != PolicyTypeName {
		r.fault(t.Line, "type %q: want %s", text, PolicyTypeName)
	}
	if e := top["explain"]; e != nil {
		if e.ShortTag() != "!!bool" {
			r.fault(e.Line, "explain: want true or false")
		}
		r.explain = strings.EqualFold(e.Value, "true")
	}
	rules := top["rules"]
	switch {
	case rules == nil:
		r.fault(n.Line, "rules is missing")
	case rules.Kind != yaml.SequenceNode || len(rules.Content) == 0:
		r.fault(rules.Line, "rules: want a list of at least one rule, each with match and who may")
	case len(rules.Content) > maxRules:
		r.fault(rules.Line, "%d rules, the limit is %d", len(rules.Content), maxRules)
	default:
		for _, c := range rules.Content {
			r.rule(c)
		}
	}
}

func (r *policyReader) rule(n *yaml.Node) {
	m := r.members(n, "a rule", "match", "groups", "users", "anyone", "deny")
	if m == nil {
		return
	}
	out := &rule{line: n.Line}
	out.groups, out.users = r.list(m["groups"], "groups"), r.list(m["users"], "users")
	out.anyone, out.deny = r.yes(m["anyone"], "anyone"), r.yes(m["deny"], "deny")
	said := 0
	for _, given := range []bool{m["groups"] != nil || m["users"] != nil, m["anyone"] != nil, m["deny"] != nil} {
		if given {
			said++
		}
	}
	switch {
	case said == 0:
		r.fault(n.Line, "the rule does not say who may: want groups, users, anyone or deny")
	case said > 1:
		r.fault(n.Line, "the rule says more than one of groups or users, anyone, and deny: want one")
	}
	match := m["match"]
	if match == nil {
		r.fault(n.Line, "the rule has no match: want a pattern, for example GET /reports/")
		return
	}
	if text, ok := r.text(match, "match"); ok {
		r.add(out, match.Line, text)
	}
}

// add puts a rule among the others, if its pattern is good.
func (r *policyReader) add(out *rule, line int, match string) {
	var err error
	if out.pattern, err = parsePattern(match); err != nil {
		r.fault(line, "match: %v", err)
		return
	}
	if register(r.mux, out.match) != nil {
		other := conflicting(r.rules, out)
		switch {
		case other == nil:
			r.fault(line, "match: %s conflicts with another rule", out.match)
		case other.match == out.match:
			r.fault(line, "match: %s is also in line %d", out.match, other.line)
		default:
			r.fault(line, "match: %s and line %d, %s, meet, and neither is more specific: make one a part of the other", out.match, other.line, other.match)
		}
		return
	}
	r.rules = append(r.rules, out)
}

// text is a string that YAML reads as one: of 007, true or null nobody could say what is meant.
func (r *policyReader) text(n *yaml.Node, what string) (string, bool) {
	switch {
	case n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null":
		r.fault(n.Line, "%s: want a text", what)
	case n.ShortTag() != "!!str":
		r.fault(n.Line, "%s: %s is not a text for YAML: put it into quotes", what, n.Value)
	case strings.TrimSpace(n.Value) != n.Value || n.Value == "":
		r.fault(n.Line, "%s: %q is empty, or has white space at an end", what, n.Value)
	case len(n.Value) > 1024:
		r.fault(n.Line, "%s: over 1024 bytes", what)
	default:
		return n.Value, true
	}
	return "", false
}

func (r *policyReader) list(n *yaml.Node, what string) (out []string) {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		r.fault(n.Line, "%s: want a list of at least one name, for example [analysts]", what)
		return nil
	}
	for _, c := range n.Content {
		name, ok := r.text(c, what)
		switch {
		case !ok:
		case slices.Contains(out, name):
			r.fault(c.Line, "%s: %s is there twice", what, name)
		default:
			out = append(out, name)
		}
	}
	return out
}

// yes is a flag that can only be set: "anyone: false" would seem to deny.
func (r *policyReader) yes(n *yaml.Node, what string) bool {
	if n == nil {
		return false
	}
	if n.ShortTag() != "!!bool" || !strings.EqualFold(n.Value, "true") {
		r.fault(n.Line, "%s: want true, or leave it out", what)
	}
	return true
}
