// Package version is that of the programs.
package version

import "runtime/debug"

// version is set by the linker: -X github.com/podtap/podtap/internal/version.version=1.2.3.
var version string

// String is the version that the programs were built as; where nobody set one, that
// of the source tree, as Go knows it.
func String() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}
