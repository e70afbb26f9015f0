// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
	"metal-stack.io/infrastructure-apiserver/pkg/apiserver/testserver"
	"metal-stack.io/infrastructure-apiserver/pkg/simulator"
)

// A network and an address are claimed, used by clusters, held while these exist, and released.
func TestStandalone_ClaimsAreSharedAndReleased(t *testing.T) {
	s := testserver.Start(t, testserver.Options{Simulator: simulator.Config{Speed: 200}})
	api := apiOf(t, s)
	startControllerManager(t, s)
	named := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: testserver.NamespaceA, Name: name}
	}
	network := &v1alpha4.MetalStackNetwork{ObjectMeta: named("shared"), Spec: v1alpha4.MetalStackNetworkSpec{Partition: simulator.DefaultPartition}}
	ip := &v1alpha4.MetalStackIP{ObjectMeta: named("api"), Spec: v1alpha4.MetalStackIPSpec{NetworkID: simulator.InternetNetwork}}
	wrong := ip.DeepCopy()
	wrong.Name, wrong.Spec.NetworkID = "wrong", "no-such-network"
	require.True(t, apierrors.IsInvalid(api.Create(t.Context(), wrong)))
	create(t, api, network, ip)
	require.Eventually(t, func() bool {
		n, networkErr := get(t, api, network)
		i, ipErr := get(t, api, ip)
		return networkErr == nil && ipErr == nil && n.Status.Ready && i.Status.Ready && n.Status.Managed && n.Finalizers != nil
	}, patience, glance)
	network, err := get(t, api, network)
	require.NoError(t, err)
	ip, err = get(t, api, ip)
	require.NoError(t, err)

	var clusters []client.Object
	for _, name := range []string{"a", "b"} {
		cluster := &v1alpha4.MetalStackCluster{ObjectMeta: named(name), Spec: v1alpha4.MetalStackClusterSpec{
			Partition: simulator.DefaultPartition, PublicNetworkID: simulator.InternetNetwork, PrivateNetworkID: network.Spec.NetworkID,
		}}
		if name == "a" {
			cluster.Spec.ControlPlaneEndpoint = v1alpha4.APIEndpoint{Host: ip.Spec.Address, Port: 6443}
		}
		clusters = append(clusters, cluster)
	}
	create(t, api, clusters...)
	requireReady(t, api, clusters...)
	for _, claim := range []client.Object{network, ip} {
		require.NoError(t, api.Delete(t.Context(), claim))
	}
	inUse := func(conditions []metav1.Condition) bool {
		c := meta.FindStatusCondition(conditions, infrastructure.ConditionDeleting)
		return c != nil && c.Reason == infrastructure.ReasonInUse
	}
	require.Eventually(t, func() bool {
		n, networkErr := get(t, api, network)
		i, ipErr := get(t, api, ip)
		return networkErr == nil && ipErr == nil && inUse(n.Status.Conditions) && inUse(i.Status.Conditions)
	}, patience, glance)
	for _, cluster := range clusters {
		require.NoError(t, api.Delete(t.Context(), cluster))
	}
	requireGone(t, api, clusters...)
	requireGone(t, api, network, ip)
	_, networks, ips := held(s)
	assert.Zero(t, networks)
	assert.Zero(t, ips)
}
