// SPDX-License-Identifier: Apache-2.0

// Package version is the version of this project that a program is built from.
// It links nothing of the project.
package version

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Set by the linker; see the Makefile.
var (
	version string // for example v0.1.0, or what git describe makes of the commit
	commit  string // hash of the commit, in full or abbreviated
)

// unknown is the version or commit of a program that was built without both.
const unknown = "unknown"

// Info is the version of a program.
type Info struct {
	// Version is a semantic version, or unknown.
	Version string
	// Commit is the hash of the git commit, or unknown.
	Commit string
	// CommitTime is in RFC 3339, or empty.
	CommitTime string
	// Modified is true if the program was built from more than the commit.
	Modified bool
	// Go is the version of Go.
	Go string
}

// Get returns the version of this program: from the linker, or else from the
// build information that the Go toolchain records.
func Get() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{}
	}
	return infoOf(version, commit, build)
}

func infoOf(version, commit string, build *debug.BuildInfo) Info {
	info := Info{Version: version, Commit: commit, Go: runtime.Version()}
	if info.Version == "" && build.Main.Version != "(devel)" {
		info.Version = build.Main.Version
	}
	for _, setting := range build.Settings {
		switch setting.Key {
		case "vcs.revision":
			if info.Commit == "" {
				info.Commit = setting.Value
			}
		case "vcs.time":
			info.CommitTime = setting.Value
		case "vcs.modified":
			info.Modified = setting.Value == "true"
		}
	}
	info.Modified = info.Modified || strings.HasSuffix(info.Version, "dirty")
	if info.Version == "" {
		info.Version = unknown
	}
	if info.Commit == "" {
		info.Commit = unknown
	}
	return info
}

// String is the version in one line.
func (i Info) String() string {
	return fmt.Sprintf("%s (commit %s, %s)", i.Version, i.Commit[:min(len(i.Commit), 12)], i.Go)
}

// AddFlag adds the flag --version to flags, which are those of the command.
func AddFlag(command *cobra.Command, flags *pflag.FlagSet) {
	command.Version = Get().String()
	command.SetVersionTemplate("{{.DisplayName}} {{.Version}}\n")
	flags.Bool("version", false, "Print the version and exit.")
}
