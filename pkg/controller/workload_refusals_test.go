// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	firewallv2 "metal-stack.io/infrastructure-apiserver/pkg/apis/firewall/v2"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// addFirewall adds a second firewall, g, after f in the order in which they are visited.
func (h *workloadHarness) addFirewall() {
	h.t.Helper()
	g := h.firewall()
	g.Name, g.UID, g.ResourceVersion = "g", "uid-of-g", ""
	g.Status.Metal.MachineID, g.Status.Metal.Hostname = "machine-2", "g-host"
	status := g.DeepCopy()
	require.NoError(h.t, h.api.Create(h.t.Context(), g))
	status.ResourceVersion = g.ResourceVersion
	require.NoError(h.t, h.api.Status().Update(h.t.Context(), status))
}

func invalid(name string) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: firewallv2.GroupName, Kind: "FirewallMonitor"}, name, nil)
}

// refuseStatusOf refuses changes of the status of a firewall.
func (h *workloadHarness) refuseStatusOf(name string) {
	h.r.cached = interceptor.NewClient(h.api.(client.WithWatch), interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			if obj.GetName() == name {
				return invalid(name)
			}
			return c.SubResource(sub).Patch(ctx, obj, patch, opts...)
		},
	})
}

func TestWorkload_WhatIsRefusedOfOneFirewallConcernsNoOther(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(h *workloadHarness){
		"monitor": func(h *workloadHarness) {
			h.refuse = func(verb string, obj client.Object) error {
				if verb == "create" && strings.HasPrefix(obj.GetName(), "f-host") {
					return invalid("f-host")
				}
				return nil
			}
		},
		"status": func(h *workloadHarness) { h.refuseStatusOf("f") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newWorkloadHarness(t)
			h.provideFirewallAccess("the-token")
			h.writeKubeconfig(workloadKubeconfigText)
			h.addFirewall()
			refuse(h)
			h.visit(0)
			assert.Equal(t, metav1.ConditionTrue, h.firewallCondition().Status)
			other := h.get(firewalls, "g").(*v1alpha4.MetalStackFirewall)
			assert.NotNil(t, other.Status.WorkloadAccess)
			assert.Equal(t, infrastructure.ReasonControllerNeverReported, condition(other, infrastructure.ConditionControllerConnected).Reason)
			refused := condition(h.firewall(), infrastructure.ConditionControllerConnected)
			if name == "status" {
				assert.Empty(t, refused)
				return
			}
			assert.Equal(t, metav1.ConditionUnknown, refused.Status)
			assert.Equal(t, "The FirewallMonitor cannot be used: the API server answers 422 Unprocessable Entity", refused.Message)
		})
	}
}

func TestWorkload_CleaningEndsThoughAStatusIsRefused(t *testing.T) {
	t.Parallel()
	h := newConnectedHarness(t)
	h.addFirewall()
	h.visit(workloadCheckInterval)
	h.refuseStatusOf("f")
	h.change(func(c *v1alpha4.MetalStackCluster) { c.Spec.FirewallSpec.Controller = nil })
	h.step(0)
	h.visit(0)
	assert.Empty(t, h.firewallCondition())
	assert.False(t, h.inWorkload(&corev1.ServiceAccount{}, "firewall", "firewall-controller"))
	assert.Nil(t, h.get(firewalls, "g").(*v1alpha4.MetalStackFirewall).Status.WorkloadAccess)
}
