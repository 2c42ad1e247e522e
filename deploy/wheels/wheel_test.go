package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func sample(target platform) wheel {
	return wheel{
		distribution: distribution{name: "obo-relay-sample", command: "./cmd/obo-sample", summary: "a sample"},
		version:      "1.2.0rc1", platform: target, binary: []byte("binary"), license: []byte("licence"),
		module:  []file{{"sample/__init__.py", []byte("x = 1\n"), 0o644}},
		notices: file{"THIRD_PARTY", []byte("of others"), 0o644}, sbom: file{"obo-sample.cdx.json", []byte("{}"), 0o644},
	}
}

// contents are the files of a wheel by name.
func contents(t *testing.T, w wheel) (map[string]string, []*zip.File) {
	t.Helper()
	data, err := w.bytes()
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		found[f.Name] = string(text)
	}
	return found, z.File
}

func TestWheelHoldsWhatPipWants(t *testing.T) {
	t.Parallel()
	w := sample(platforms[0])
	if want := "obo_relay_sample-1.2.0rc1-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64.whl"; w.filename() != want {
		t.Errorf("%s, want %s", w.filename(), want)
	}
	found, files := contents(t, w)
	const info = "obo_relay_sample-1.2.0rc1.dist-info/"
	for name, part := range map[string]string{
		"obo_relay_sample-1.2.0rc1.data/scripts/obo-sample": "binary",
		"sample/__init__.py":               "x = 1\n",
		info + "licenses/LICENSE":          "licence",
		info + "licenses/THIRD_PARTY":      "of others",
		info + "sboms/obo-sample.cdx.json": "{}",
		info + "METADATA":                  "Metadata-Version: 2.4\nName: obo-relay-sample\nVersion: 1.2.0rc1\n",
		info + "WHEEL":                     "\nTag: py3-none-manylinux_2_17_x86_64\nTag: py3-none-manylinux2014_x86_64\n",
	} {
		if !strings.Contains(found[name], part) {
			t.Errorf("%s: %q lacks %q", name, found[name], part)
		}
		sum := sha256.Sum256([]byte(found[name]))
		line := fmt.Sprintf("%s,sha256=%s,%d\n", name, base64.RawURLEncoding.EncodeToString(sum[:]), len(found[name]))
		if !strings.Contains(found[info+"RECORD"], line) {
			t.Errorf("RECORD lacks %q", line)
		}
	}
	for line := range strings.Lines(found[info+"METADATA"]) { // PEP 639
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "License-File: "); ok && found[info+"licenses/"+name] == "" {
			t.Errorf("METADATA names the licence %s, which is not in licenses/", name)
		}
	}
	if want := info + "RECORD,,\n"; !strings.HasSuffix(found[info+"RECORD"], want) || strings.Count(found[info+"RECORD"], "\n") != len(files) {
		t.Errorf("RECORD of %d files:\n%s", len(files), found[info+"RECORD"])
	}
	for _, f := range files {
		if executable := f.Mode()&0o111 != 0; executable != strings.Contains(f.Name, "/scripts/") {
			t.Errorf("%s has mode %v", f.Name, f.Mode())
		}
	}
}

func TestSameInputGivesSameBytes(t *testing.T) {
	t.Parallel()
	one, err := sample(platforms[0]).bytes()
	if err != nil {
		t.Fatal(err)
	}
	other, err := sample(platforms[0]).bytes()
	if err != nil || !bytes.Equal(one, other) {
		t.Errorf("two wheels differ: %v", err)
	}
	files := []file{{"a/b", []byte("b"), 0o755}}
	first, err := tarball(files)
	if err != nil {
		t.Fatal(err)
	}
	second, err := tarball(files)
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("two tarballs differ: %v", err)
	}
}

func TestWindowsWantsItsSuffix(t *testing.T) {
	t.Parallel()
	windows := platforms[slices.IndexFunc(platforms, func(p platform) bool { return p.os == "windows" })]
	found, _ := contents(t, sample(windows))
	if _, ok := found["obo_relay_sample-1.2.0rc1.data/scripts/obo-sample.exe"]; !ok {
		t.Errorf("no .exe among %v", found)
	}
}
