package verify

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// parsers are what somebody outside can put bytes into, and the fuzz targets that do.
var parsers = map[string][]string{
	"announcement": {"relay.FuzzAnnouncement", "relay.FuzzAnnouncementClaims", "publisher.FuzzDirectory"}, "grant": {"relay.FuzzGrant", "relay.FuzzGrantClaims", "relay.FuzzMutated"},
	"compact JWS beside go-jose": {"relay.FuzzJWS"}, "compact JWE beside go-jose": {"relay.FuzzJWE"},
	"request and reply payloads": {"relay.FuzzSplitRequest", "relay.FuzzFrame", "worker.FuzzAdmit"}, "ordered frames": {"relay.FuzzStream"}, "control frames": {"relay.FuzzControl", "relay.FuzzStream"},
	"unsealed refusal": {"relay.FuzzControl"}, "request head": {"relay.FuzzRequestHead", "worker.FuzzAdmit"}, "reply head": {"relay.FuzzReplyHead"}, "end": {"relay.FuzzEnd"},
	"problem": {"relay.FuzzProblem"}, "hints": {"relay.FuzzHints", "worker.FuzzAdmit"}, "subject": {"relay.FuzzSubject"}, "path": {"relay.FuzzPath"}, "token": {"relay.FuzzToken"},
	"trust file": {"relay.FuzzTrust"}, "kit": {"relay.FuzzKit"}, "policy": {"worker.FuzzParsePolicy"}, "SQL request": {"worker.FuzzSQLRequest"}, "Arrow result": {"worker.FuzzArrow"},
	"the workspace's word on who it is": {"worker.FuzzMe", "worker.FuzzIdentityHeaders"}, "HTTP at the sidecar": {"publisher.FuzzSidecar"}, "HTTP at the front door": {"worker.FuzzFront"},
}

// Every parser has its fuzz target, every target a parser that it is for, and each has seeds that are checked in.
func TestFuzzTargets(t *testing.T) {
	seeded := map[string]bool{}
	err := filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Fuzz") {
				files, _ := os.ReadDir(filepath.Join(filepath.Dir(path), "testdata", "fuzz", f.Name.Name))
				seeded[file.Name.Name+"."+f.Name.Name] = len(files) > 0 || addsSeeds(f)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for what, targets := range parsers {
		for _, target := range targets {
			named[target] = true
			if _, ok := seeded[target]; !ok {
				t.Errorf("%s: there is no fuzz target %s", what, target)
			}
		}
	}
	for target, ok := range seeded {
		if !ok {
			t.Errorf("%s has no seeds: neither f.Add nor testdata/fuzz", target)
		}
		if !named[target] {
			t.Errorf("%s is for no parser: name it in deploy/verify/fuzz_test.go", target)
		}
	}
}

// addsSeeds reports whether the target calls Add on its *testing.F.
func addsSeeds(f *ast.FuncDecl) bool {
	if len(f.Type.Params.List) != 1 || len(f.Type.Params.List[0].Names) != 1 {
		return false
	}
	name, found := f.Type.Params.List[0].Names[0].Name, false
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if call, ok := n.(*ast.SelectorExpr); ok && call.Sel.Name == "Add" {
			x, isName := call.X.(*ast.Ident)
			found = found || isName && x.Name == name
		}
		return true
	})
	return found
}
