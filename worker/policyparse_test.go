package worker

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/obo-relay/obo-relay/relay"
)

const wholePolicy = `# who may do what
type: obo.v1.policy
explain: true
rules:
  - match: GET /health
    anyone: true
  - match: "GET  /reports/"    # two spaces are one
    groups: [analysts, data-admins]
    users:
      - carol@example.com
  - {match: GET /reports/raw/, deny: true}
`

func TestParsePolicy(t *testing.T) {
	p := mustPolicy(t, wholePolicy)
	if !p.explain || p.Rules() != 3 || !p.namesPeople() {
		t.Errorf("got %+v", p)
	}
	d := p.Decide("GET", "/reports/x", someUser("analysts"))
	if !d.Allowed || d.Rule != "GET /reports/" || d.Line != 7 || d.Reason != "line 7, GET /reports/: allows it to the group analysts, and alice@example.com is in it" {
		t.Errorf("got %+v", d)
	}
	if d := p.Decide("GET", "/reports/x", someUser()); d.Reason != "line 7, GET /reports/: allows it to the groups analysts, data-admins and the user carol@example.com; alice@example.com is none of them" {
		t.Errorf("got %+v", d)
	}
}

func TestParsePolicyFaults(t *testing.T) {
	rule := func(text string) string { return policyHead + "  - " + text + "\n" }
	tests := map[string]struct {
		text string
		want []string // "line: text", in this order, and no others
	}{
		"all at once": {
			"type: obo.v1.trust\nexplain: perhaps\nrule: []\nrules:\n  - match: GET a\n    groups: []\n    colour: red\n  - groups: [x, x, 7]\n  - match: /a\n  - {match: /b, deny: true, anyone: true}\n  - {match: /b, deny: true}\n  - {match: //c, anyone: no}\n",
			[]string{
				"1: type \"obo.v1.trust\": want obo.v1.policy", "2: explain: want true or false", "3: unknown key \"rule\"",
				"5: match: \"GET a\": the path does not start with /", "6: groups: want a list", "7: unknown key \"colour\"",
				"8: groups: x is there twice", "8: groups: 7 is not a text for YAML: put it into quotes", "8: the rule has no match",
				"9: the rule does not say who may", "10: the rule says more than one", "11: match: /b is also in line 10",
				"12: anyone: want true", "12: match: it would never match: the path has an empty segment",
			},
		},
		"empty":              {"", []string{"1: the file is empty"}},
		"only a comment":     {"# nothing\n", []string{"1: "}},
		"no mapping":         {"- a\n", []string{"1: the file: want type, explain, rules"}},
		"null":               {"~\n", []string{"1: the file: want"}},
		"not YAML":           {"type: obo.v1.policy\nrules: [\n", []string{"2: "}},
		"a tab":              {"type: obo.v1.policy\nrules:\n\t- x\n", []string{"3: "}},
		"not UTF-8":          {"type: \xff\n", []string{"1: "}},
		"type missing":       {"rules:\n  - {match: /, anyone: true}\n", []string{"1: type is missing"}},
		"rules missing":      {"type: obo.v1.policy\n", []string{"1: rules is missing"}},
		"no rules":           {"type: obo.v1.policy\nrules: []\n", []string{"2: rules: want a list"}},
		"rules are null":     {"type: obo.v1.policy\nrules:\n", []string{"2: rules: want a list"}},
		"a rule is a text":   {rule("/a"), []string{"3: a rule: want match, groups"}},
		"second document":    {rule("{match: /, deny: true}") + "---\n" + rule("{match: /, anyone: true}"), []string{"4: the file holds a second document"}},
		"key twice":          {rule("{match: /a, deny: true, deny: true}"), []string{"3: the key deny is there twice"}},
		"top key twice":      {rule("{match: /a, deny: true}") + "rules:\n  - {match: /, anyone: true}\n", []string{"4: the key rules is there twice"}},
		"alias":              {policyHead + "  - &a {match: /a, deny: true}\n  - *a\n", []string{"3: anchors (&a) are not allowed", "4: aliases (*a) are not allowed"}},
		"alias around":       {"type: obo.v1.policy\nrules: &r\n  - {match: /a, groups: *r}\n", []string{"2: anchors", "3: aliases"}},
		"merge key":          {policyHead + "  - {<<: {anyone: true}, match: /a, deny: true}\n", []string{`3: unknown key "<<"`}},
		"tag":                {policyHead + "  - {match: !!str /a, deny: true}\n", []string{"3: tags (!!str) are not allowed"}},
		"tag hides a number": {policyHead + "  - {match: /a, groups: [!!str 7]}\n", []string{"3: tags"}},
		"anyone false":       {rule("{match: /a, anyone: false}"), []string{"3: anyone: want true, or leave it out"}},
		"deny false":         {rule("{match: /a, deny: false, groups: [a]}"), []string{"3: deny: want true", "3: the rule says more than one"}},
		"anyone yes":         {rule("{match: /a, anyone: yes}"), []string{"3: anyone: want true"}},
		"anyone quoted":      {rule("{match: /a, anyone: 'true'}"), []string{"3: anyone: want true"}},
		"anyone and users":   {rule("{match: /a, anyone: true, users: [a]}"), []string{"3: the rule says more than one"}},
		"groups a text":      {rule("{match: /a, groups: analysts}"), []string{"3: groups: want a list"}},
		"groups null":        {rule("{match: /a, groups: }"), []string{"3: groups: want a list"}},
		"group null":         {rule("{match: /a, groups: [~]}"), []string{"3: groups: want a text"}},
		"group true":         {rule("{match: /a, groups: [true, 2024-01-01]}"), []string{"3: groups: true is not a text", "3: groups: 2024-01-01 is not a text"}},
		"group empty":        {rule("{match: /a, groups: ['', ' a']}"), []string{`3: groups: "" is empty`, `3: groups: " a" is empty, or has`}},
		"group long":         {rule("{match: /a, groups: [" + strings.Repeat("a", 1025) + "]}"), []string{"3: groups: over 1024 bytes"}},
		"group a list":       {rule("{match: /a, groups: [[a]]}"), []string{"3: groups: want a text"}},
		"match a list":       {rule("{match: [/a], deny: true}"), []string{"3: match: want a text"}},
		"host":               {rule("{match: example.com/a, deny: true}"), []string{"3: match: \"example.com/a\": the path does not start with /; a host cannot be named"}},
		"method and host":    {rule("{match: GET example.com/a, deny: true}"), []string{"3: match: \"GET example.com/a\": the path does not start with /"}},
		"method only":        {rule("{match: GET, deny: true}"), []string{`3: match: "GET": the path does not start with /`}},
		"lower case method":  {rule("{match: get /a, deny: true}"), []string{`3: match: "get" is not a method: want one in capitals`}},
		"CONNECT":            {rule("{match: CONNECT /a, deny: true}"), []string{`3: match: "CONNECT" is not a method`}},
		"two methods":        {rule("{match: GET POST /a, deny: true}"), []string{`3: match: "GET POST /a": the path does not start with /`}},
		"methods with comma": {rule("{match: 'GET,POST /a', deny: true}"), []string{`3: match: "GET,POST" is not a method`}},
		"query":              {rule("{match: '/a?b', deny: true}"), []string{"3: match: it would never match"}},
		"dots":               {rule("{match: /a/../b, deny: true}"), []string{"3: match: it would never match: the path has a dot segment"}},
		"encoded slash":      {rule("{match: /a%2fb, deny: true}"), []string{"3: match: it would never match"}},
		"bad escape":         {rule("{match: /a%zz, deny: true}"), []string{"3: match: it would never match"}},
		"not ASCII":          {rule("{match: /café, deny: true}"), []string{"3: match: it would never match"}},
		"a space":            {rule("{match: GET /a b, deny: true}"), []string{"3: match: it would never match"}},
		"semicolon":          {rule("{match: /a;b, deny: true}"), []string{"3: match: it would never match: paths with a semicolon"}},
		"wildcard open":      {rule("{match: '/{a', deny: true}"), []string{"3: match: \"/{a\" cannot be read: at offset 1: bad wildcard segment"}},
		"wildcard inside":    {rule("{match: '/a{b}', deny: true}"), []string{"cannot be read"}},
		"wildcard twice":     {rule("{match: '/{a}/{a}', deny: true}"), []string{"duplicate wildcard name"}},
		"rest not at end":    {rule("{match: '/{a...}/b', deny: true}"), []string{"not at end"}},
		"same by other name": {policyHead + "  - {match: '/{a}', deny: true}\n  - {match: '/{b}', anyone: true}\n", []string{"4: match: /{b} and line 3, /{a}, meet"}},
		"same, spaces":       {policyHead + "  - {match: GET /a, deny: true}\n  - {match: 'GET   /a', anyone: true}\n", []string{"4: match: GET /a is also in line 3"}},
		"crossing":           {policyHead + "  - {match: '/a/{x}', deny: true}\n  - {match: '/{y}/b', anyone: true}\n", []string{"4: match: /{y}/b and line 3, /a/{x}, meet, and neither is more specific"}},
		"method crossing":    {policyHead + "  - {match: POST /, deny: true}\n  - {match: /a, anyone: true}\n", []string{"4: match: /a and line 3, POST /, meet"}},
		"rest and slash":     {policyHead + "  - {match: '/a/', deny: true}\n  - {match: '/a/{r...}', anyone: true}\n", []string{"4: match: /a/{r...} and line 3, /a/, meet"}},
		"too many":           {policyHead + strings.Repeat("  - {match: /a, deny: true}\n", 1001), []string{"3: 1001 rules, the limit is 1000"}},
		"too long":           {strings.Repeat("#", 1<<20) + "\n", []string{"1: the file is over the limit"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := ParsePolicy("dir/p.yaml", []byte(test.text))
			if err == nil || p != nil {
				t.Fatalf("got %v, %v", p, err)
			}
			got := strings.Split(err.Error(), "\n")
			if len(got) != len(test.want) {
				t.Fatalf("%d faults, want %d:\n%v", len(got), len(test.want), err)
			}
			for i, fault := range got {
				want := test.want[i]
				if line, _, ok := strings.Cut(want, ": "); ok && isNumber(line) {
					want = "dir/p.yaml:" + want
				}
				if !strings.Contains(fault, want) {
					t.Errorf("got %q, want %q", fault, want)
				}
			}
		})
	}
}

func isNumber(s string) bool { _, err := strconv.Atoi(s); return err == nil }

// A file that would be huge when spelled out is refused at once.
func TestParsePolicyBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x]\n")
	for i := 1; i < 60; i++ {
		prev := "*a" + strconv.Itoa(i-1)
		b.WriteString("a" + strconv.Itoa(i) + ": &a" + strconv.Itoa(i) + " [" + strings.TrimSuffix(strings.Repeat(prev+", ", 9), ", ") + "]\n")
	}
	if _, err := ParsePolicy("p", []byte(b.String())); err == nil || !strings.Contains(err.Error(), "aliases") {
		t.Errorf("got %v", err)
	}
	deep := "type: obo.v1.policy\nrules: " + strings.Repeat("[", 200_000)
	if _, err := ParsePolicy("p", []byte(deep)); err == nil {
		t.Error("deep nesting is accepted")
	}
}

func TestReadPolicy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if _, err := ReadPolicy(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	writePolicy(t, path, policyHead+"  - {match: /a}\n")
	if _, err := ReadPolicy(path); err == nil || !strings.HasPrefix(err.Error(), path+":3: ") {
		t.Errorf("got %v", err)
	}
	writePolicy(t, path, wholePolicy)
	if p, err := ReadPolicy(path); err != nil || p.Rules() != 3 {
		t.Errorf("got %v, %v", p, err)
	}
}

func writePolicy(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Whatever a file says, reading it neither panics nor yields a policy that panics, allows a path by no rule, or decides
// otherwise for another spelling of the same path.
func FuzzParsePolicy(f *testing.F) {
	seeds, err := filepath.Glob("testdata/policy/*.yaml")
	if err != nil || len(seeds) < 4 {
		f.Fatalf("%d seeds, %v", len(seeds), err)
	}
	for _, seed := range seeds {
		data, err := os.ReadFile(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "GET", "/reports/a")
		f.Add(data, "post", "/admin")
	}
	f.Fuzz(func(t *testing.T, data []byte, method, path string) {
		p, err := ParsePolicy("p", data)
		if (err == nil) == (p == nil) {
			t.Fatalf("got %v, %v", p, err)
		}
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if number, _, _ := strings.Cut(strings.TrimPrefix(line, "p:"), ": "); !isNumber(number) {
					t.Errorf("a fault without a line: %q", line)
				}
			}
			return
		}
		p.Warnings()
		if !relay.ValidMethod(method) || relay.CheckPath(path) != nil {
			return
		}
		for _, u := range []*User{nil, someUser("analysts")} {
			d := p.Decide(method, path, u)
			if d.Allowed && (d.Rule == "" || p.byMatch[d.Rule].deny) || d.Rule != "" && p.byMatch[d.Rule] == nil {
				t.Errorf("%s %s: %+v", method, path, d)
			}
			if other := p.Decide(method, respell(path), u); !strings.Contains(path, ";") && other != d {
				t.Errorf("%s %s: %+v, spelled %s: %+v", method, path, d, respell(path), other)
			}
		}
	})
}

// respell encodes every letter of a path that is not part of an escape.
func respell(path string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '%':
			b.WriteString(path[i : i+3])
			i += 2
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			b.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
