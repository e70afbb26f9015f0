// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"metal-stack.io/infrastructure-apiserver/test/framework/build"
	"metal-stack.io/infrastructure-apiserver/test/framework/controlplane"
)

// TestManifests_AppliedAgainChangeNothing: also not with server-side apply, to which GitOps tools or
// an operator may go over. Where lists and structs are replaced as a whole, manifests state defaults:
// otherwise each apply sends them again, and is in conflict with what the first one owns.
func TestManifests_AppliedAgainChangeNothing(t *testing.T) {
	t.Parallel()
	plane := controlplane.Start(t)
	apply := func(flags ...string) string {
		t.Helper()
		args := append([]string{"apply", "-k", filepath.Join(build.Root(), "artifacts", "deploy")}, flags...)
		stdout, stderr, err := plane.Kubectl(t, plane.Admin(), args...)
		require.NoError(t, err, stderr)
		assert.Empty(t, stderr)
		return stdout
	}
	assert.NotContains(t, apply(), "configured")
	configured := regexp.MustCompile(`(?m)^.* configured$`).FindAllString(apply(), -1)
	assert.ElementsMatch(t, []string{
		// kubectl sends their selectors with each apply.
		"poddisruptionbudget.policy/metalstack-apiserver configured",
		"poddisruptionbudget.policy/metalstack-controller-manager configured",
	}, configured)
	apply("--server-side")
}
