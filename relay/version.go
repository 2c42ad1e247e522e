package relay

import "runtime/debug"

// version is set by the linker: -X github.com/obo-relay/obo-relay/relay.version=v0.1.0, as the Makefile and the wheels do.
var version string

// BuildVersion is the version of the running program: the linker's, else the one that the go command recorded, else "dev".
func BuildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}
