package relay

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"testing"
)

type pathVectors struct {
	Comment string     `json:"comment"`
	Cases   []pathCase `json:"cases"`
}

type pathCase struct {
	Path string `json:"path"`
	Want string `json:"want"` // ok, or a code
}

func pathCases() pathVectors {
	v := pathVectors{Comment: "PROTOCOL.md section 9, canonical path."}
	for _, p := range []string{
		"/", "/a", "/a/", "/a/b", "/a.b", "/.well-known/x", "/...", "/a..", "/..a", "/a/.b/c.", "/a%20b", "/caf%C3%A9", "/caf%c3%a9", "/%25", "/%252e%252e", "/a:b@c",
		"/a;b=c", "/a\"b<c>^{|}`", "/~u", "/a'b(c)*!$&+,=", "/%3F%23", "/%80", "/[x]", "/" + strings.Repeat("a", maxPath-1),
	} {
		v.Cases = append(v.Cases, pathCase{p, "ok"})
	}
	for _, p := range []string{
		"", "a", "*", "//", "//evil.example", "//evil.example/a", "/a//b", "/a//", "///", "http://evil.example/", "@evil.example/", "/.", "/..", "/./", "/../", "/a/.", "/a/..",
		"/a/./b", "/a/../b", "/%2e", "/%2E%2e", "/a/%2e%2e/b", "/.%2e/", "/a%2fb", "/a%2Fb", "/a%5cb", "/a%5Cb", `/a\b`, `\a`, "/a?b", "/a#b", "/a%", "/a%2", "/a%zz", "/a%2g", "/%%41", "/a%00", "/a%0a",
		"/a%0D%0A", "/a%1F", "/a%7f", "/a%7F", "/a b", "/a\tb", "/a\r\nb", "/a\x00", "/a\x7f", "/é", "/\xff", " /a", "/a ", "/a%u002e",
	} {
		v.Cases = append(v.Cases, pathCase{p, string(CodePathNotCanonical)})
	}
	v.Cases = append(v.Cases, pathCase{"/" + strings.Repeat("a", maxPath), string(CodeHeadTooLarge)})
	for i, c := range v.Cases {
		if strings.ContainsRune(c.Path, '\xff') || c.Path == "/\xff" { // no JSON can hold it: TestCheckPathBytes has it
			v.Cases = append(v.Cases[:i], v.Cases[i+1:]...)
			break
		}
	}
	return v
}

func TestPathVectors(t *testing.T) {
	for _, c := range vectors(t, "paths.json", pathCases()).Cases {
		checkWant(t, CheckPath(c.Path), c.Want, "")
		if t.Failed() {
			t.Fatalf("path %q", c.Path)
		}
	}
}

// Each byte, raw and encoded in both cases, in the middle of a segment.
func TestCheckPathBytes(t *testing.T) {
	for b := range 256 {
		c := byte(b)
		raw := c > ' ' && c <= '~' && c != '\\' && c != '?' && c != '#' && c != '%'
		if got := CheckPath("/a" + string([]byte{c}) + "b"); (got == nil) != raw {
			t.Errorf("byte %#x: %v", c, got)
		}
		encoded := c >= ' ' && c != 0x7f && c != '/' && c != '\\' && c != '.'
		for _, form := range []string{"/a%%%02x", "/a%%%02X"} {
			if got := CheckPath(fmt.Sprintf(form, c)); (got == nil) != encoded {
				t.Errorf("byte %#x encoded: %v", c, got)
			}
		}
	}
}

func TestCheckPathQuotesNothing(t *testing.T) {
	for _, p := range []string{"CANARY", "/CANARY//", "/CANARY/..", "/CANARY%00", "/CANARY\\", "/" + strings.Repeat("CANARY", 2000)} {
		if err := CheckPath(p); err == nil || strings.Contains(err.Error(), "CANARY") {
			t.Errorf("%q: %v", p, err)
		}
	}
}

// An accepted path means one thing: net/http neither changes nor redirects it, and cleaning its decoded form changes
// nothing. The schema's pattern says the same as the code.
func FuzzPath(f *testing.F) {
	schema := compileSchemas(f)[RequestHeadTypeName].Properties["path"]
	f.Fuzz(func(t *testing.T, p string) {
		err := CheckPath(p)
		if jsonErr := schema.Validate(p); (jsonErr == nil) != (err == nil) && !errors.Is(err, CodeHeadTooLarge) {
			t.Errorf("%q: CheckPath %v, schema %v", p, err, jsonErr)
		}
		if err != nil {
			return
		}
		u, err := url.ParseRequestURI(p)
		if err != nil || u.Host != "" || u.Scheme != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			t.Fatalf("%q is read as %+v: %v", p, u, err)
		}
		cleaned := path.Clean(u.Path)
		if strings.HasSuffix(u.Path, "/") && cleaned != "/" {
			cleaned += "/"
		}
		if cleaned != u.Path {
			t.Errorf("%q is cleaned to %q", u.Path, cleaned)
		}
		// net/url writes what RFC 3986 does not allow in a path percent-encoded, so only the meaning stays there.
		if u.EscapedPath() != p && !strings.ContainsAny(p, "\"<>^`{|}") {
			t.Errorf("%q is escaped again as %q", p, u.EscapedPath())
		}
	})
}
