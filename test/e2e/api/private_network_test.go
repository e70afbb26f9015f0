// SPDX-License-Identifier: Apache-2.0

package api

import (
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func TestPrivateNetwork_IsAllocatedAsTheSpecSays(t *testing.T) {
	t.Parallel()
	env := start(t, noSweep)
	ctx := t.Context()
	clusters := env.clusters(teamA)
	c := cluster("c")
	c.Spec.PrivateNetwork = &v1alpha4.PrivateNetwork{AddressFamilies: []string{"IPv4"}, PrefixLengths: v1alpha4.PrefixLengths{IPv4: 16}}
	_, err := clusters.Create(ctx, c, metav1.CreateOptions{})
	require.True(t, apierrors.IsInvalid(err), "%v", err)
	require.ErrorContains(t, err, "spec.privateNetwork.prefixLengths.ipv4: Invalid value: 16: must be between 17 and 30, inclusive")

	c.Spec.PrivateNetwork.PrefixLengths.IPv4 = 26
	c.Spec.PrivateNetworkID = env.privateNetwork(t, projectA)
	_, err = clusters.Create(ctx, c, metav1.CreateOptions{})
	require.ErrorContains(t, err, "spec.privateNetwork: Forbidden: must be omitted, since privateNetworkID names the network")

	c.Spec.PrivateNetworkID = ""
	_, err = clusters.Create(ctx, c, metav1.CreateOptions{})
	require.NoError(t, err)
	allocated, err := clusters.Allocate(ctx, "c", &v1alpha4.Allocation{}, metav1.CreateOptions{})
	require.NoError(t, err)
	require.Len(t, allocated.Status.Network.Prefixes, 1)
	require.Regexp(t, `^10\..*/26$`, allocated.Status.Network.Prefixes[0])

	// The network is observed meanwhile.
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		changed, err := clusters.Get(ctx, "c", metav1.GetOptions{})
		require.NoError(t, err)
		changed.Spec.PrivateNetwork.PrefixLengths.IPv4 = 24
		_, err = clusters.Update(ctx, changed, metav1.UpdateOptions{})
		return err
	})
	require.ErrorContains(t, err, "field is immutable: the allocation of the cluster's infrastructure has begun")

	// As from a backup, or another management cluster, with the finalizer of the server.
	restored := cluster("restored")
	restored.Spec, restored.Finalizers = allocated.Spec, []string{infrastructure.ClusterFinalizer}
	_, err = clusters.Create(ctx, restored, metav1.CreateOptions{})
	require.NoError(t, err, "which network it has is known")
}
