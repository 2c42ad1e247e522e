package relay

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestCodesAreComplete(t *testing.T) {
	form := regexp.MustCompile(`^[a-z][a-z_]*$`)
	seen := map[Code]bool{}
	for _, c := range Codes() {
		if !form.MatchString(string(c.Code)) || len(c.Code) > 64 || seen[c.Code] {
			t.Errorf("%q: form, length or a second row", c.Code)
		}
		seen[c.Code] = true
		if c.Status < 400 || c.Status > 599 || c.Title == "" || strings.HasSuffix(c.Title, ".") || strings.HasSuffix(c.Remedy, ".") {
			t.Errorf("%s: %+v", c.Code, c)
		}
		if c.Remedy == "" && c.Code != CodeCanceled {
			t.Errorf("%s: no remedy", c.Code)
		}
		if !slices.Contains([]Outcome{NotDelivered, NotStarted, Done, Unknown}, c.Outcome) {
			t.Errorf("%s: outcome %q", c.Code, c.Outcome)
		}
		if c.Elsewhere && c.Outcome != NotStarted {
			t.Errorf("%s may be tried elsewhere although its outcome is %s", c.Code, c.Outcome)
		}
		if c.Code.Info() != c {
			t.Errorf("%s: Info is another row", c.Code)
		}
	}
	// Every constant of the type is in the table.
	file, err := parser.ParseFile(token.NewFileSet(), "code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Code" {
			value, _ := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			found++
			if !seen[Code(value)] {
				t.Errorf("%s is not in the table", value)
			}
		}
		return true
	})
	if found != len(seen) {
		t.Errorf("%d constants, %d rows", found, len(seen))
	}
	rows := Codes()
	rows[0].Status = 0
	if Codes()[0].Status == 0 {
		t.Error("Codes gives its table away")
	}
}

// PROTOCOL.md §12 holds the table; -update writes it.
func TestProtocolHasTheCodes(t *testing.T) {
	const file, begin, end = "PROTOCOL.md", "<!-- codes -->\n", "<!-- /codes -->"
	var table bytes.Buffer
	table.WriteString("\n| code | HTTP | outcome | elsewhere | what happened | remedy |\n|---|---|---|---|---|---|\n")
	for _, c := range Codes() {
		elsewhere := ""
		if c.Elsewhere {
			elsewhere = "yes"
		}
		fmt.Fprintf(&table, "| <a id=\"%s\"></a>`%s` | %d | `%s` | %s | %s | %s |\n", c.Code, c.Code, c.Status, c.Outcome, elsewhere, c.Title, c.Remedy)
	}
	table.WriteString("\n")
	text := string(readFile(t, file))
	before, rest, ok1 := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatal("the markers are gone")
	}
	golden(t, file, []byte(before+begin+table.String()+end+after))
}
