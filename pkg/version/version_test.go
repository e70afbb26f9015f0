// SPDX-License-Identifier: Apache-2.0

package version

import (
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInfo_PrefersTheLinkerToBuildInformation(t *testing.T) {
	t.Parallel()
	build := &debug.BuildInfo{
		Main: debug.Module{Version: "v0.0.0-20260101000000-0123456789ab+dirty"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"},
			{Key: "vcs.time", Value: "2026-01-01T00:00:00Z"},
			{Key: "vcs.modified", Value: "true"},
		},
	}
	linked := infoOf("v0.1.0", "abc1234", &debug.BuildInfo{})
	assert.Equal(t, Info{Version: "v0.1.0", Commit: "abc1234", Go: runtime.Version()}, linked)
	assert.Equal(t, "v0.1.0 (commit abc1234, "+runtime.Version()+")", linked.String())

	built := infoOf("", "", build)
	assert.Equal(t, "v0.0.0-20260101000000-0123456789ab+dirty (commit 0123456789ab, "+runtime.Version()+")", built.String())
	assert.Equal(t, "2026-01-01T00:00:00Z", built.CommitTime)
	assert.True(t, built.Modified)
	assert.Equal(t, "v0.1.0", infoOf("v0.1.0", "", build).Version)

	assert.Equal(t, "unknown (commit unknown, "+runtime.Version()+")", infoOf("", "", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}).String())
	assert.True(t, infoOf("v0.1.0-3-gabc1234-dirty", "abc1234", &debug.BuildInfo{}).Modified)
}

// The linker ignores a variable that does not exist.
func TestLinkerFlags_NameVariablesOfThisPackage(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("version.go")
	require.NoError(t, err)
	for _, file := range []string{"../../Makefile", "../../Dockerfile"} {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		var names []string
		for _, match := range regexp.MustCompile(`metal-stack\.io/infrastructure-apiserver/pkg/version\.(\w+)=`).FindAllSubmatch(content, -1) {
			names = append(names, string(match[1]))
			assert.Regexp(t, `(?m)^\t`+string(match[1])+`\s+string`, string(source), file)
		}
		assert.ElementsMatch(t, []string{"version", "commit"}, names, file)
	}
}
