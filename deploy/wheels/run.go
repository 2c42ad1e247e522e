package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
)

// maxSize is where Databricks Apps refuses to deploy a file.
const maxSize = 10_000_000

// flags say what is packed.
type flags struct {
	Version  string   `required:"" placeholder:"X.Y.Z" help:"Version of the packages. pip takes an unchanged one for installed already, so raise it with each deployment."`
	Out      string   `required:"" placeholder:"DIR" help:"Where they go; made if missing."`
	Source   string   `default:"." placeholder:"DIR" help:"The project. Default: the working directory."`
	Platform []string `placeholder:"GOOS/GOARCH" help:"Only for these. Default: all of them."`
	Tarballs bool     `help:"Tarballs with every command, instead of wheels."`
}

// version is the part of PEP 440 that is used here: releases, and pre-releases of them.
var version = regexp.MustCompile(`^\d+(\.\d+){1,2}((a|b|rc|\.dev)\d+)?$`)

func run(ctx context.Context, args []string, stdout io.Writer) error {
	var f flags
	parser, err := kong.New(&f, kong.Name("wheels"), kong.Writers(stdout, stdout))
	if err != nil {
		return err
	}
	if _, err := parser.Parse(args); err != nil {
		return err
	}
	chosen, err := choose(f.Platform)
	if !version.MatchString(f.Version) {
		err = errors.Join(err, fmt.Errorf("--version %q: want for example 0.2.0 or 0.2.0rc1", f.Version))
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.Out, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "obo-wheels-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	p := packer{flags: f, work: work, stdout: stdout}
	for _, target := range chosen {
		if err := p.pack(ctx, target); err != nil {
			return err
		}
	}
	return nil
}

// choose returns the platforms of that name.
func choose(names []string) ([]platform, error) {
	if len(names) == 0 {
		return platforms, nil
	}
	var chosen []platform
	var faults []error
	for _, name := range names {
		found := false
		for _, p := range platforms {
			if p.String() == name {
				chosen, found = append(chosen, p), true
			}
		}
		if !found {
			faults = append(faults, fmt.Errorf("--platform %q: want one of %s", name, strings.Trim(fmt.Sprint(platforms), "[]")))
		}
	}
	return chosen, errors.Join(faults...)
}

// packer writes the packages of one version.
type packer struct {
	flags
	work   string
	stdout io.Writer
}

func (p packer) pack(ctx context.Context, target platform) error {
	license, err := os.ReadFile(filepath.Join(p.Source, "LICENSE"))
	if err != nil {
		return err
	}
	if p.Tarballs {
		return p.packTarball(ctx, target, license)
	}
	for _, d := range distributions {
		binary, err := p.build(ctx, target, d.command)
		if err != nil {
			return err
		}
		module, err := d.readModule(p.Source)
		if err != nil {
			return err
		}
		notices, sbom, err := p.papers(ctx, target, d.command)
		if err != nil {
			return err
		}
		w := wheel{distribution: d, version: p.Version, platform: target, binary: binary, module: module, license: license, notices: notices, sbom: sbom}
		content, err := w.bytes()
		if err != nil {
			return err
		}
		if err := p.write(w.filename(), content); err != nil {
			return err
		}
	}
	return nil
}

// write refuses what the platform would.
func (p packer) write(name string, content []byte) error {
	size := fmt.Sprintf("%.1f MB", float64(len(content))/1e6)
	if !p.Tarballs && len(content) >= maxSize {
		return fmt.Errorf("%s has %s (%d bytes): Databricks Apps refuses files of 10 MB and more", name, size, len(content))
	}
	if err := os.WriteFile(filepath.Join(p.Out, name), content, 0o644); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "  %-90s %7s\n", name, size)
	return err
}
