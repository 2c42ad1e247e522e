// Package version is a program's own version. It imports nothing of the relay's, so that the broker need not either.
package version

import "runtime/debug"

// linked is set by the linker: -X github.com/obo-relay/obo-relay/relay/version.linked=v0.1.0, as the Makefile and the wheels do.
var linked string

// Build is the version of the running program: the linker's, else the one that the go command recorded, else "dev".
func Build() string {
	if linked != "" {
		return linked
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
