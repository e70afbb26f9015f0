// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRestoreEtcd_LosesLaterWrites(t *testing.T) {
	t.Parallel()
	c := Start(t)
	namespace := newNamespace(t, c)
	maps := c.Client().CoreV1().ConfigMaps(namespace)
	before := newConfigMap(t, maps, "before")
	snapshot := c.SnapshotEtcd(t)
	after := newConfigMap(t, maps, "after")
	for range 2 { // a snapshot can be restored more than once
		c.RestoreEtcd(t, snapshot)
		got, err := maps.Get(t.Context(), "before", metav1.GetOptions{})
		require.NoError(t, err)
		require.Equal(t, before.UID, got.UID)
		require.NoError(t, gone(maps.Get(t.Context(), "after", metav1.GetOptions{})))
		again := newConfigMap(t, maps, "after")
		require.NotEqual(t, after.UID, again.UID)
	}
	_, stderr, err := c.Kubectl(t, c.Admin(), "delete", "namespace", namespace, "--wait", "--timeout=1m")
	require.NoError(t, err, "controllers go on: %s", stderr)
}
