// SPDX-License-Identifier: Apache-2.0

package kubectl_test

import (
	"strings"

	"github.com/stretchr/testify/require"
)

func diffShowsChangesOfApply(s *space) {
	manifest := restingManifest("node-1")
	s.kubectlIn(manifest, "apply", "-f", "-")
	s.rest("node-1")
	before := s.object("msm", "node-1")
	for _, how := range []string{"--server-side=false", "--server-side=true"} {
		args := []string{"diff", how, "--force-conflicts=" + strings.TrimPrefix(how, "--server-side="), "-f", "-"}
		require.Empty(s.t, s.kubectlIn(manifest, args...), "%s: nothing to change", how)

		o := s.run(strings.Replace(manifest, "color: red", "color: blue", 1), args...)
		require.Equal(s.t, 1, o.code, "%s: there are differences, and no error: %s", how, o.stderr)
		require.Contains(s.t, o.stdout, "-    color: red", how)
		require.Contains(s.t, o.stdout, "+    color: blue", how)
		require.NotContains(s.t, o.stdout, "status", "%s: what the manifest does not say is no difference", how)

		o = s.run(strings.Replace(manifest, "partition: fra-01", "partition: atlantis", 1), args...)
		require.Greater(s.t, o.code, 1, "%s: an error is no difference", how)
		require.Contains(s.t, o.stderr, "atlantis", how)
		require.Contains(s.t, o.stderr, "fra-01", "%s: what is allowed", how)
	}
	o := s.run(restingManifest("node-2"), "diff", "-f", "-")
	require.Equal(s.t, 1, o.code, o.stderr)
	require.Contains(s.t, o.stdout, "+  name: node-2", "what is not there yet is all new")
	require.Equal(s.t, before, s.object("msm", "node-1"), "nothing was changed")
	require.Contains(s.t, s.refused("", "get", "msm", "node-2"), "not found")
}

func serverSideApplyTracksOwners(s *space) {
	manifest := restingManifest("node-1")
	apply := func(manager, manifest string, more ...string) outcome {
		s.t.Helper()
		return s.run(manifest, append([]string{"apply", "--server-side", "--field-manager=" + manager, "-f", "-"}, more...)...)
	}
	o := apply("alice", manifest)
	require.Zero(s.t, o.code, o.stderr)
	require.Contains(s.t, o.stdout, "serverside-applied")
	s.rest("node-1")
	revision := s.field(".metadata.resourceVersion", "msm", "node-1")
	require.Zero(s.t, apply("alice", manifest).code)
	require.Equal(s.t, revision, s.field(".metadata.resourceVersion", "msm", "node-1"), "the same again changes nothing")

	blue := strings.Replace(manifest, "color: red", "color: blue", 1)
	o = apply("bob", blue)
	require.NotZero(s.t, o.code)
	require.Contains(s.t, o.stderr, `conflict with "alice": .metadata.labels.color`)
	require.Contains(s.t, o.stderr, "--force-conflicts", "kubectl says what can be done")
	require.Equal(s.t, "red", s.field(".metadata.labels.color", "msm", "node-1"))
	o = apply("bob", blue, "--force-conflicts")
	require.Zero(s.t, o.code, o.stderr)
	require.Equal(s.t, "blue", s.field(".metadata.labels.color", "msm", "node-1"))
	o = apply("alice", manifest)
	require.NotZero(s.t, o.code, "alice has lost the label")
	require.Contains(s.t, o.stderr, `"bob"`)

	// What no field manager applies any more goes; what another one still applies stays.
	without := strings.Replace(strings.Replace(manifest, "    color: red\n", "", 1), "  - tier=web\n", "  - role=db\n", 1)
	without = strings.Replace(without, "  labels:\n", "", 1)
	o = apply("alice", without)
	require.Zero(s.t, o.code, o.stderr)
	require.Equal(s.t, "blue", s.field(".metadata.labels.color", "msm", "node-1"))
	require.Equal(s.t, `["tier=web","role=db"]`, s.field(".spec.tags", "msm", "node-1"), "a set has what its appliers say")
	o = apply("bob", without)
	require.Zero(s.t, o.code, o.stderr)
	require.Empty(s.t, s.field(".metadata.labels.color", "msm", "node-1"))
	require.Equal(s.t, `["role=db"]`, s.field(".spec.tags", "msm", "node-1"))

	require.Contains(s.t, s.kubectl("get", "msm", "node-1", "-o=yaml", "--show-managed-fields"), "manager: alice")
	require.NotContains(s.t, s.kubectl("get", "msm", "node-1", "-o=yaml"), "managedFields")
}

func clientSideApplyChangesFieldsOfManifest(s *space) {
	manifest := restingManifest("node-1") + "---" + clusterManifest("orchid")
	require.Equal(s.t, 2, strings.Count(s.kubectlIn(manifest, "apply", "-f", "-"), " created"))
	s.kubectl("wait", "--for=condition=Ready", "msc/orchid", "--timeout="+kubectlTimeout)
	filledIn := s.field(".spec", "msc", "orchid")
	require.Contains(s.t, filledIn, s.project, "the server has filled in what was left out")

	said := s.kubectlIn(manifest, "apply", "-f", "-")
	require.Equal(s.t, 2, strings.Count(said, " unchanged"), "what the server filled in is no change: %s", said)
	require.Equal(s.t, filledIn, s.field(".spec", "msc", "orchid"))

	s.kubectl("label", "msm", "node-1", "by=hand")
	changed := strings.Replace(strings.Replace(manifest, "    color: red\n", "    shape: round\n", 1), "  - tier=web\n", "  - tier=db\n  - more\n", 1)
	said = s.kubectlIn(changed, "apply", "-f", "-")
	require.Contains(s.t, said, "metalstackmachine."+group+"/node-1 configured")
	require.Contains(s.t, said, "metalstackcluster."+group+"/orchid unchanged")
	require.JSONEq(s.t, `{"shape":"round","by":"hand"}`, s.field(".metadata.labels", "msm", "node-1"), "what the manifest had and has no more is gone")
	require.Equal(s.t, `["tier=db","more"]`, s.field(".spec.tags", "msm", "node-1"))
	require.Contains(s.t, s.kubectl("apply", "view-last-applied", "msm/node-1"), "shape: round")

	require.Contains(s.t, s.refused(strings.Replace(manifest, "partition: fra-01", "partition: fra-02", 1), "apply", "-f", "-"),
		"spec.partition", "the field that is wrong")

	s.kubectlIn(templateManifest("small"), "apply", "-f", "-")
	require.Contains(s.t, s.kubectlIn(templateManifest("small"), "apply", "-f", "-"), "unchanged")
	require.Contains(s.t, s.refused(strings.Replace(templateManifest("small"), "v1-small-x86", "c1-large-x86", 1), "apply", "-f", "-"), "a template cannot be changed")
}

// serverSideApplyTakesOverClientSideManifest goes from client-side to
// server-side apply as kubectl's users do.
func serverSideApplyTakesOverClientSideManifest(s *space) {
	manifest := restingManifest("node-1")
	s.kubectlIn(manifest, "apply", "-f", "-")
	s.kubectlIn(manifest, "apply", "--server-side", "-f", "-")
	s.kubectlIn(strings.Replace(manifest, "    color: red\n", "    shape: round\n", 1), "apply", "--server-side", "-f", "-")
	require.JSONEq(s.t, `{"shape":"round"}`, s.field(".metadata.labels", "msm", "node-1"))
	managers := s.field(".metadata.managedFields[*].manager", "msm", "node-1", "--show-managed-fields")
	require.NotContains(s.t, managers, "client-side", "who applied on the client's side has handed over")
}
