package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// platform is one that the packages are built for.
type platform struct {
	os, arch string
	tag      string // of wheels: Go's binaries are static, so that any glibc and musl will do
}

func (p platform) String() string { return p.os + "/" + p.arch }

var platforms = []platform{
	{"linux", "amd64", "manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64"},
	{"linux", "arm64", "manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64"},
	{"darwin", "amd64", "macosx_12_0_x86_64"},
	{"darwin", "arm64", "macosx_12_0_arm64"},
	{"windows", "amd64", "win_amd64"},
}

// executable is the file name of a command there.
func (p platform) executable(command string) string {
	if p.os == "windows" {
		return command + ".exe"
	}
	return command
}

// build returns the binary of a package of the project, such as ./deploy/cmd/obo.
func (p packer) build(ctx context.Context, target platform, pkg string) ([]byte, error) {
	out := filepath.Join(p.work, target.executable(path.Base(pkg)))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X github.com/obo-relay/obo-relay/relay/version.linked=v"+p.Version, "-o", out, pkg)
	cmd.Dir = p.Source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+target.os, "GOARCH="+target.arch)
	if output, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s for %s: %w\n%s", pkg, target, err, output)
	}
	return os.ReadFile(out)
}
