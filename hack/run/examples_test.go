// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExamples_NamespacesBecomeBindings(t *testing.T) {
	e := &examples{}
	require.NoError(t, e.add([]byte(`
# a comment
apiVersion: v1
kind: Namespace
metadata:
  name: team-a
  labels: {metal-stack.infrastructure.cluster.x-k8s.io/project: p1}
---
apiVersion: infrastructure.cluster.x-k8s.io/v1alpha4
kind: MetalStackCluster
metadata: {name: c, namespace: team-a}
---
apiVersion: infrastructure.cluster.x-k8s.io/v1alpha4
kind: MetalStackMachine
metadata: {name: m, namespace: team-a}
`)))
	require.Equal(t, []string{"team-a=p1"}, e.bindings)
	require.Len(t, e.objects, 2)
	require.Equal(t, 1, e.servers())
}

func TestExamples_ForeignKindIsRefused(t *testing.T) {
	require.ErrorContains(t, (&examples{}).add([]byte("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n")), "not served standalone")
}
