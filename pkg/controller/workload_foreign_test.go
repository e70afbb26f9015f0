// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// The kubeconfig is found by the name of the Cluster in the label, which may be another one's.
func TestWorkload_CleaningTouchesNoOtherCluster(t *testing.T) {
	t.Parallel()
	relabel := func(c *v1alpha4.MetalStackCluster) { ownedBy("Cluster", "lily", "uid-of-lily")(c) }
	remove := func(c *v1alpha4.MetalStackCluster) { c.Spec.FirewallSpec.Controller = nil }
	for name, prepare := range map[string]func(h *workloadHarness){
		"left over": func(h *workloadHarness) {
			h.change(relabel)
			h.visit(accessCheckInterval)
			h.visit(accessCheckInterval)
			require.Equal(h.t, infrastructure.ReasonClusterMismatch, h.firewallCondition().Reason)
			h.change(remove)
		},
		"of another owner and without controller at once": func(h *workloadHarness) {
			h.change(func(c *v1alpha4.MetalStackCluster) { relabel(c); remove(c) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newConnectedHarness(t)
			prepare(h)
			h.live.requests, h.requests = nil, nil
			_, err := h.w.Reconcile(t.Context(), requestOf(accessCluster))
			require.NoError(t, err)
			assert.Empty(t, h.requests)
			assert.NotContains(t, h.live.requests, "get *v1.Secret rose-kubeconfig")
			assert.Nil(t, h.w.connections.get(requestOf(accessCluster)))
			assert.True(t, h.inWorkload(&corev1.ServiceAccount{}, "firewall", "firewall-controller"))
			assert.True(t, h.inWorkload(&rbacv1.ClusterRole{}, "", "metal-stack:firewall-controller"))
			h.monitor()
			h.visit(accessCheckInterval)
			assert.Empty(t, h.firewallCondition(), "the end of the access waits for nothing in the workload cluster")
			assert.False(t, h.find(accessCluster+"-firewall-workload-token", &corev1.Secret{}))
		})
	}
}

func TestWorkload_OfAnotherClusterIsNotTouched(t *testing.T) {
	t.Parallel()
	h := newWorkloadHarness(t)
	h.provideFirewallAccess("the-token")
	h.writeKubeconfig(workloadKubeconfigText)
	h.change(func(c *v1alpha4.MetalStackCluster) {
		ownedBy("Cluster", "lily", "uid-of-lily")(c)
	})
	h.visit(0)
	assert.Empty(t, h.requests)
	assert.Equal(t, infrastructure.ReasonClusterMismatch, h.firewallCondition().Reason)
}
