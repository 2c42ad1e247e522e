package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"path"
)

// commands are all of the relay's, the operator's too.
var commands = []string{"./publisher/cmd/obo-publisher", "./worker/cmd/obo-worker", "./deploy/cmd/obo-broker", "./deploy/cmd/obo-doctor", "./deploy/cmd/obo"}

func (p packer) packTarball(ctx context.Context, target platform, license []byte) error {
	base := fmt.Sprintf("obo-relay-%s-%s-%s", p.Version, target.os, target.arch)
	files := []file{{base + "/LICENSE", license, 0o644}}
	for _, command := range commands {
		binary, err := p.build(ctx, target, command)
		if err != nil {
			return err
		}
		notices, sbom, err := p.papers(ctx, target, command)
		if err != nil {
			return err
		}
		files = append(files, file{base + "/" + target.executable(path.Base(command)), binary, 0o755},
			file{base + "/" + notices.name + "." + path.Base(command), notices.content, 0o644}, file{base + "/" + sbom.name, sbom.content, 0o644})
	}
	content, err := tarball(files)
	if err != nil {
		return err
	}
	return p.write(base+".tar.gz", content)
}

func tarball(files []file) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out) // the best compression takes twice as long, for two thousandths
	t := tar.NewWriter(z)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Size: int64(len(f.content)), Mode: int64(f.mode), ModTime: epoch, Format: tar.FormatUSTAR}
		if err := t.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := t.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	err := z.Close()
	return out.Bytes(), err
}
