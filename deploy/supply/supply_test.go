package supply

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const isc = `Copyright (c) 2026 Somebody

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted,
provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED
WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR
CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT,
NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
`

// A module's licences are those of its folder and of what is linked of it; a text that is none of the known ones is a fault,
// and so is no text at all.
func TestLicensesOfModules(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		ids   []string
		texts int
		fault string
	}{
		"one":                {map[string]string{"LICENSE": isc}, []string{"ISC"}, 1, ""},
		"a notice beside it": {map[string]string{"LICENSE.txt": isc, "NOTICE": "This product contains …"}, []string{"ISC"}, 2, ""},
		"a linked part":      {map[string]string{"LICENSE": isc, "inner/COPYING": "GNU GENERAL PUBLIC LICENSE\nVersion 3"}, nil, 2, "inner/COPYING is no licence that is known"},
		"a part not linked":  {map[string]string{"LICENSE": isc, "elsewhere/LICENSE": "mine alone"}, []string{"ISC"}, 1, ""},
		"code of that name":  {map[string]string{"LICENSE": isc, "license.go": "package x"}, []string{"ISC"}, 1, ""},
		"none":               {map[string]string{"README": isc}, nil, 0, "it has no licence file"},
		"one of its own":     {map[string]string{"LICENSE": "You may read this on Sundays."}, nil, 1, "LICENSE is no licence that is known"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, content := range c.files {
				path := filepath.Join(root, filepath.FromSlash(file))
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.MkdirAll(filepath.Join(root, "inner", "linked"), 0o755); err != nil {
				t.Fatal(err)
			}
			texts, ids, err := licenses(root, map[string]bool{filepath.Join(root, "inner", "linked"): true})
			if !slices.Equal(ids, c.ids) || len(texts) != c.texts || (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%v, %d texts, %v", ids, len(texts), err)
			}
		})
	}
}

// Texts that several modules share stand in the notices once.
func TestNotices(t *testing.T) {
	text, err := Notices("obo-x", []Module{{"a", "v1", []string{"ISC"}, []Text{{"LICENSE", isc}}}, {"b", "v2", []string{"ISC"}, []Text{{"COPYING", isc + "\n"}}}})
	if err != nil || strings.Count(text, "Copyright (c) 2026 Somebody") != 1 || !strings.Contains(text, "a (LICENSE)\nb (COPYING)\n") || !strings.Contains(text, "  b v2: ISC\n") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestModulesOfAnotherProject(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"go.mod": "module example.com/x\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if modules, err := Modules(t.Context(), dir, ".", Targets...); err != nil || len(modules) != 0 {
		t.Errorf("%v, %v", modules, err)
	}
	if _, err := Modules(t.Context(), dir, "./nowhere", Targets[0]); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("%v", err)
	}
}
