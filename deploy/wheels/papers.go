package main

import (
	"context"
	"path"

	"github.com/obo-relay/obo-relay/deploy/supply"
)

// papers are what goes with a binary: the licences of what is in it, and its bill of materials.
func (p packer) papers(ctx context.Context, target platform, pkg string) (notices, sbom file, err error) {
	command := path.Base(pkg)
	modules, err := supply.Modules(ctx, p.Source, pkg, supply.Target{OS: target.os, Arch: target.arch})
	if err != nil {
		return file{}, file{}, err
	}
	text, err := supply.Notices(command, modules)
	if err != nil {
		return file{}, file{}, err
	}
	bom, err := supply.SBOM(command, "v"+p.Version, modules)
	return file{"THIRD_PARTY", []byte(text), 0o644}, file{command + ".cdx.json", bom, 0o644}, err
}
