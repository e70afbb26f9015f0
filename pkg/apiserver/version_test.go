// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/version"
	baseversion "k8s.io/component-base/version"

	projectversion "metal-stack.io/infrastructure-apiserver/pkg/version"
)

func TestServedVersion_IsKubernetesWithTheProjectAsBuildMetadata(t *testing.T) {
	t.Parallel()
	served := newServedVersion()
	info := served.Info()
	parsed, err := version.ParseSemantic(info.GitVersion)
	require.NoError(t, err)
	assert.Equal(t, baseversion.DefaultKubeBinaryVersion, info.Major+"."+info.Minor)
	assert.Equal(t, version.MustParse(baseversion.DefaultKubeBinaryVersion).Minor(), parsed.Minor(), "kubectl compares it with its own")
	assert.Regexp(t, `^metalstack\.[0-9A-Za-z.-]+$`, parsed.BuildMetadata())
	assert.Equal(t, projectversion.Get().Commit, info.GitCommit)
	assert.NotContains(t, info.GitVersion+info.GitCommit, "Format")
	assert.Equal(t, baseversion.DefaultKubeBinaryVersion, served.EmulationVersion().String())
}
