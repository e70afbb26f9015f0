// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// withMutableFields sets all fields that can be changed while a firewall runs.
func withMutableFields(spec *v1alpha4.MetalStackFirewallSpec) {
	spec.Controller = &v1alpha4.FirewallController{
		Interval:   &metav1.Duration{Duration: 20 * time.Second},
		RateLimits: []v1alpha4.FirewallRateLimit{{NetworkID: "internet", Rate: 10}},
	}
	spec.ProvisioningTimeout = &metav1.Duration{Duration: 2 * time.Hour}
	spec.AutoUpdate = &v1alpha4.FirewallAutoUpdate{MaintenanceWindow: &v1alpha4.MaintenanceWindow{Begin: "02:30", Duration: metav1.Duration{Duration: time.Hour}}}
}

func TestPlanRollout_UpdatesMutableFieldsAndReplacesNothing(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	without := newFirewall(cluster, nil)
	serving, deleting := firewallOf(cluster, "a", home), firewallOf(cluster, "b", home, going)
	withMutableFields(cluster.Spec.FirewallSpec)
	require.Equal(t, without.Name, newFirewall(cluster, nil).Name, "they are no part of the name")
	require.Equal(t, *cluster.Spec.FirewallSpec, newFirewall(cluster, nil).Spec)

	plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{serving, deleting}, rollTime, NewOptions())
	require.Nil(t, plan.create)
	require.Empty(t, plan.deletions)
	require.Equal(t, []*v1alpha4.MetalStackFirewall{serving}, plan.updates)

	setMutableFields(&serving.Spec, cluster.Spec.FirewallSpec)
	require.Empty(t, planRollout(cluster, []*v1alpha4.MetalStackFirewall{serving}, rollTime, NewOptions()).updates)
	cluster.Spec.FirewallSpec.AutoUpdate = nil
	require.Equal(t, []string{"autoUpdate"}, differingMutableFields(&serving.Spec, cluster.Spec.FirewallSpec))
}

func TestPlanRollout_UpdatesOutdatedFirewallThatServes(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	old, successor, unneeded := firewallOf(cluster, "a", home, outdated), firewallOf(cluster, "b", installing), firewallOf(cluster, "c", installing, outdated)
	withMutableFields(cluster.Spec.FirewallSpec)
	plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{old, successor, unneeded}, rollTime, NewOptions())
	require.Equal(t, []*v1alpha4.MetalStackFirewall{old, successor}, plan.updates, "the third one is deleted")
}

func TestRollout_UpdatesMutableFieldsOfOwnedAndAdoptedFirewalls(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v1alpha4.MetalStackFirewall){"owned": home, "adopted": func(f *v1alpha4.MetalStackFirewall) { home(f); unowned(f) }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
			h := newHarness(t, clusters, false, cluster, capiCluster(), firewallOf(cluster, "by-hand", change))
			spec := func() *v1alpha4.MetalStackFirewallSpec {
				return &h.get(firewalls, "by-hand").(*v1alpha4.MetalStackFirewall).Spec
			}
			before := spec().DeepCopy()

			for _, change := range []func(*v1alpha4.MetalStackFirewallSpec){
				withMutableFields,
				func(spec *v1alpha4.MetalStackFirewallSpec) { spec.Controller.RateLimits = nil },
				func(spec *v1alpha4.MetalStackFirewallSpec) {
					setMutableFields(spec, &v1alpha4.MetalStackFirewallSpec{})
				},
			} {
				now := h.get(clusters, "c-infra").(*v1alpha4.MetalStackCluster)
				change(now.Spec.FirewallSpec)
				h.update(now)
				h.takeEvents()
				h.reconcile("c-infra")
				require.Empty(t, differingMutableFields(spec(), now.Spec.FirewallSpec))
				require.Contains(t, strings.Join(h.takeEvents(), "\n"), "Normal "+EventFirewallUpdated+" Updated controller")
				h.reconcile("c-infra")
				require.NotContains(t, strings.Join(h.takeEvents(), "\n"), EventFirewallUpdated, "once")
			}
			require.Equal(t, before, spec(), "the rest of the spec is what it was")
			require.Len(t, h.firewalls(), 1)
		})
	}
}

// unpatchable is an API that refuses changes of one firewall.
type unpatchable struct {
	client.Client
	name string
}

func (u unpatchable) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
	if obj.GetName() == u.name {
		return refusalOf(u.name, "10.0.0.9 is no address of the project")
	}
	return u.Client.Patch(ctx, obj, patch, opts...)
}

func TestRollout_RefusedUpdateIsAConditionAndHoldsNothingUp(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	old, refused := firewallOf(cluster, "a", home, outdated), firewallOf(cluster, "b", home)
	withMutableFields(cluster.Spec.FirewallSpec)
	cluster.Spec.FirewallSpec.Controller = nil
	h := newHarness(t, clusters, false, cluster, capiCluster(), old, refused)
	h.r.cached = unpatchable{h.api, "b"}
	require.NotZero(t, h.reconcile("c-infra").RequeueAfter)
	require.NotNil(t, h.get(firewalls, "a").GetDeletionTimestamp(), "the rest is done")
	ready := condition(h.get(clusters, "c-infra"), infrastructure.ConditionFirewallReady)
	require.Equal(t, metav1.ConditionFalse, ready.Status)
	require.Equal(t, infrastructure.ReasonFirewallUpdateRefused, ready.Reason)
	require.Contains(t, ready.Message, "MetalStackFirewall b cannot be updated (provisioningTimeout, autoUpdate)")
	require.Contains(t, ready.Message, "10.0.0.9 is no address of the project")
	require.Contains(t, strings.Join(h.takeEvents(), "\n"), "Warning "+infrastructure.ReasonFirewallUpdateRefused)

	h.r.cached = h.api
	h.reconcile("c-infra")
	require.Equal(t, infrastructure.ReasonPhonedHome, condition(h.get(clusters, "c-infra"), infrastructure.ConditionFirewallReady).Reason)
}
