package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFaultsAreToldBeforeAnythingIsBuilt(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	err := run(t.Context(), []string{"--version", "v1", "--out", out, "--platform", "plan9/amd64", "--platform", "linux/amd64"}, io.Discard)
	for _, want := range []string{`--version "v1"`, `--platform "plan9/amd64": want one of linux/amd64 linux/arm64`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("the folder was made all the same")
	}
}

func TestWheelThatIsTooLargeForThePlatform(t *testing.T) {
	t.Parallel()
	out := t.TempDir()
	p := packer{flags: flags{Out: out}, stdout: io.Discard}
	if err := p.write("fits.whl", make([]byte, maxSize-1)); err != nil {
		t.Error(err)
	}
	err := p.write("large.whl", make([]byte, maxSize))
	if err == nil || !strings.Contains(err.Error(), "large.whl has 10.0 MB (10000000 bytes)") {
		t.Errorf("%v names no size", err)
	}
	if _, err := os.Stat(filepath.Join(out, "large.whl")); err == nil {
		t.Error("it was written all the same")
	}
	p.Tarballs = true // no app is deployed from those
	if err := p.write("large.tar.gz", bytes.Repeat([]byte{1}, maxSize)); err != nil {
		t.Error(err)
	}
}
