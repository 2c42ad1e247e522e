package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// epoch is the time of every file, so that the same input gives the same bytes. ZIP knows none before.
var epoch = time.Date(1980, time.January, 1, 0, 0, 0, 0, time.UTC)

// wheel is a binary distribution in the format 1.0 of PyPA ("Binary distribution format", once PEP 427).
type wheel struct {
	distribution
	version  string
	platform platform
	binary   []byte
	module   []file
	license  []byte
	notices  file
	sbom     file // in a folder of its own (PEP 770)
}

func (w wheel) base() string     { return w.escaped() + "-" + w.version }
func (w wheel) filename() string { return w.base() + "-py3-none-" + w.platform.tag + ".whl" }
func (w wheel) info(name string) string {
	return w.base() + ".dist-info/" + name
}

// bytes is the whole archive.
func (w wheel) bytes() ([]byte, error) {
	script := w.base() + ".data/scripts/" + w.platform.executable(path.Base(w.command))
	files := append([]file{{script, w.binary, 0o755}}, w.module...)
	files = append(files,
		file{w.info("licenses/LICENSE"), w.license, 0o644},
		file{w.info("licenses/" + w.notices.name), w.notices.content, 0o644},
		file{w.info("sboms/" + w.sbom.name), w.sbom.content, 0o644},
		file{w.info("METADATA"), []byte(w.metadata()), 0o644},
		file{w.info("WHEEL"), []byte(w.tags()), 0o644})
	files = append(files, file{w.info("RECORD"), []byte(w.record(files)), 0o644})

	var out bytes.Buffer
	z := zip.NewWriter(&out)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	for _, f := range files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: epoch}
		header.SetMode(f.mode)
		to, err := z.CreateHeader(header)
		if err != nil {
			return nil, err
		}
		if _, err := to.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := z.Close()
	return out.Bytes(), err
}

func (w wheel) metadata() string {
	return fmt.Sprintf(`Metadata-Version: 2.4
Name: %s
Version: %s
Summary: %s
License-Expression: Apache-2.0
License-File: LICENSE
License-File: THIRD_PARTY
Project-URL: Source, https://github.com/obo-relay/obo-relay
Requires-Python: >=3.9
`, w.name, w.version, w.summary)
}

func (w wheel) tags() string {
	var b strings.Builder
	b.WriteString("Wheel-Version: 1.0\nGenerator: obo-relay\nRoot-Is-Purelib: false\n")
	for tag := range strings.SplitSeq(w.platform.tag, ".") {
		fmt.Fprintf(&b, "Tag: py3-none-%s\n", tag)
	}
	return b.String()
}

// record lists every file with its digest, and itself without one.
func (w wheel) record(files []file) string {
	var b strings.Builder
	for _, f := range files {
		sum := sha256.Sum256(f.content)
		fmt.Fprintf(&b, "%s,sha256=%s,%d\n", f.name, base64.RawURLEncoding.EncodeToString(sum[:]), len(f.content))
	}
	fmt.Fprintf(&b, "%s,,\n", w.info("RECORD"))
	return b.String()
}
