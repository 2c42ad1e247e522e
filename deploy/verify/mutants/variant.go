package main

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// To build the project for each mutant would take far too long, so one build holds many: beside a function stands each mutant
// of it under another name, and the function begins by handing over to the one that the environment names. What is no
// change within one function (a constant, say, or a method that goes) has a build of its own.

// chosen is the environment variable that names a mutant, in a build that holds many.
const chosen = "OBO_MUTANT"

// chooser is a file beside those of a package: read once, before anything that depends on it.
func chooser(pkg string) []byte {
	return fmt.Appendf(nil, "package %s\n\nimport \"os\"\n\nvar mutantChosen = os.Getenv(%q)\n", pkg, chosen)
}

// variant is a mutant as a function of its own.
type variant struct {
	id      int
	decl    *ast.FuncDecl // the original
	mutated []byte        // the text of the mutated one, under its own name
}

func (v variant) name() string { return fmt.Sprintf("%s_mutant%d", v.decl.Name.Name, v.id) }

// newVariant returns false for a mutant that is more than a change within one function.
func newVariant(id int, original *source, mutated []byte) (variant, bool) {
	changed, err := parseSource(mutated)
	if err != nil || len(changed.file.Decls) != len(original.file.Decls) {
		return variant{}, false
	}
	for i, d := range original.file.Decls {
		before, ok := d.(*ast.FuncDecl)
		if !ok || before.Body == nil {
			continue
		}
		after, ok := changed.file.Decls[i].(*ast.FuncDecl)
		if !ok || after.Name.Name != before.Name.Name {
			return variant{}, false
		}
		from, to, end := original.offset(before.Pos()), original.offset(before.End()), changed.offset(after.End())
		if end < from || !bytes.Equal(original.text[:from], mutated[:min(from, len(mutated))]) || !bytes.Equal(original.text[to:], mutated[end:]) {
			continue
		}
		v := variant{id: id, decl: before}
		name := changed.offset(after.Name.Pos())
		v.mutated = slices.Concat(mutated[changed.offset(after.Type.Pos()):name], []byte(v.name()), mutated[name+len(after.Name.Name):end])
		return v, true
	}
	return variant{}, false
}

// source is a parsed file.
type source struct {
	text []byte
	set  *token.FileSet
	file *ast.File
}

func parseSource(text []byte) (*source, error) {
	s := &source{text: text, set: token.NewFileSet()}
	var err error
	s.file, err = parser.ParseFile(s.set, "", text, parser.SkipObjectResolution)
	return s, err
}

func (s *source) offset(p token.Pos) int { return s.set.Position(p).Offset }

// with returns the file with variants of its functions.
func (s *source) with(variants []variant) []byte {
	type insertion struct {
		at, delete int
		text       string
	}
	var insertions []insertion
	named := map[*ast.FuncDecl]string{} // how to call a variant of it, but for the name
	for _, v := range variants {
		d := v.decl
		if _, done := named[d]; !done {
			var args []string
			name := func(fields *ast.FieldList, prefix string) (names []string) {
				if fields == nil {
					return nil
				}
				for _, f := range fields.List {
					if len(f.Names) == 0 { // it gets a name
						n := fmt.Sprintf("%s%d", prefix, len(names))
						insertions = append(insertions, insertion{s.offset(f.Type.Pos()), 0, n + " "})
						names = append(names, n)
					}
					for _, ident := range f.Names {
						n := ident.Name
						if n == "_" {
							n = fmt.Sprintf("%s%d", prefix, len(names))
							insertions = append(insertions, insertion{s.offset(ident.Pos()), 1, n})
						}
						names = append(names, n)
					}
				}
				return names
			}
			receiver := strings.Join(name(d.Recv, "mutantReceiver"), "")
			args = name(d.Type.Params, "mutantArg")
			call := strings.Join(args, ", ")
			if n := len(d.Type.Params.List); n > 0 {
				if _, variadic := d.Type.Params.List[n-1].Type.(*ast.Ellipsis); variadic {
					call += "..."
				}
			}
			if receiver != "" {
				receiver += "."
			}
			named[d] = receiver + "%s(" + call + ")"
		}
		call := fmt.Sprintf(named[d], v.name())
		if d.Type.Results != nil && len(d.Type.Results.List) > 0 {
			call = "return " + call
		} else {
			call += "; return"
		}
		insertions = append(insertions,
			insertion{s.offset(d.Body.Lbrace) + 1, 0, fmt.Sprintf(" if mutantChosen == \"%d\" { %s }; ", v.id, call)},
			insertion{len(s.text), 0, "\n" + string(v.mutated) + "\n"})
	}
	slices.SortStableFunc(insertions, func(a, b insertion) int { return cmp.Compare(a.at, b.at) })
	var out []byte
	last := 0
	for _, i := range insertions {
		out = append(append(out, s.text[last:i.at]...), i.text...)
		last = i.at + i.delete
	}
	return append(out, s.text[last:]...)
}
