// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// older is a firewall like a spec before the one before.
func older(f *v1alpha4.MetalStackFirewall) { f.Spec.Image = "firewall-0" }

func unallocated(f *v1alpha4.MetalStackFirewall) {
	f.Status, f.Spec.ProviderID = v1alpha4.MetalStackFirewallStatus{}, ""
}

func released(f *v1alpha4.MetalStackFirewall) {
	home(f)
	f.Status.Allocation.Phase = v1alpha4.AllocationReleased
	readyCondition(f, "False", infrastructure.ReasonReleased, rollTime)
}

func TestPlanRollout_CreatesNoThirdFirewall(t *testing.T) {
	t.Parallel()
	type change = []func(*v1alpha4.MetalStackFirewall)
	for name, c := range map[string]struct {
		firewalls map[string]change
		create    bool
		retire    []string
		reason    string
		says      string
	}{
		"one serves, one installs":           {map[string]change{"a": {home, older}, "b": {installing, outdated}}, false, []string{"b"}, "RollingOut", "MetalStackFirewall b must be deleted"},
		"one serves, one has no metal yet":   {map[string]change{"a": {home, older}, "b": {unallocated, outdated}}, false, []string{"b"}, "RollingOut", "MetalStackFirewall b must be deleted"},
		"one serves, one goes":               {map[string]change{"a": {home, older}, "b": {installing, outdated, going}}, false, nil, "RollingOut", "MetalStackFirewall b must be deleted"},
		"one serves, one has released":       {map[string]change{"a": {home, older}, "b": {released, outdated, going}}, true, nil, "RollingOut", "is being created"},
		"one serves, the other one is gone":  {map[string]change{"a": {home, older}, "b": {gone, outdated}}, false, []string{"b"}, "RollingOut", "MetalStackFirewall b must be deleted"},
		"both serve":                         {map[string]change{"a": {home, older}, "b": {home, outdated, younger}}, false, []string{"b"}, "RollingOut", "MetalStackFirewall b must be deleted"},
		"both have served, one is ready":     {map[string]change{"a": {silent, older}, "b": {home, outdated}}, false, []string{"a"}, "RollingOut", "MetalStackFirewall a must be deleted"},
		"the one that serves goes":           {map[string]change{"a": {home, older, going}, "b": {home, outdated}}, false, nil, "RollingOut", "MetalStackFirewall a must be deleted"},
		"the one that serves goes, no other": {map[string]change{"a": {home, older, going}, "b": {installing, outdated}}, false, []string{"b"}, "RollingOut", "must be deleted"},
		"both like the spec, neither works":  {map[string]change{"a": {gone}, "b": {crashing}}, false, []string{"b", "a"}, "Replacing", "must be deleted"},
		"one of a machine that is unknown":   {map[string]change{"a": {home, older}, "b": {restored, outdated}}, false, nil, "Provisioning", "is unknown until"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
			var owned []*v1alpha4.MetalStackFirewall
			for name, changes := range c.firewalls {
				owned = append(owned, firewallOf(cluster, name, changes...))
			}
			plan := planRollout(cluster, owned, rollTime, NewOptions())
			require.Equal(t, c.create, plan.create != nil)
			var retire []string
			for _, r := range plan.deletions {
				retire = append(retire, r.firewall.Name)
			}
			require.ElementsMatch(t, c.retire, retire)
			require.Equal(t, c.reason, plan.status.Reason, plan.status.Message)
			require.Contains(t, plan.status.Message, c.says)
		})
	}
}

// A cache that does not show the last firewall would have another one made at each change.
func TestRollout_CountsFirewallsOnTheServer(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	old := firewallOf(cluster, "a", home, older)
	h := newHarness(t, clusters, false, cluster, capiCluster(), old, firewallOf(cluster, "b", unallocated, outdated))
	h.r.cached = outdatedCache{h.api, []v1alpha4.MetalStackFirewall{*h.get(firewalls, "a").(*v1alpha4.MetalStackFirewall)}}
	require.Equal(t, inFlightRequeue, h.reconcile("c-infra").RequeueAfter)
	require.Len(t, h.firewalls(), 2)

	h.r.cached = h.api
	for range 5 {
		h.reconcile("c-infra")
	}
	require.NotNil(t, h.get(firewalls, "b").GetDeletionTimestamp(), "it makes room")
	require.Len(t, h.firewalls(), 2)
	require.NoError(t, client.IgnoreNotFound(h.drop(firewalls, "b")))
	h.reconcile("c-infra")
	require.Len(t, h.firewalls(), 2)
	h.reconcile("c-infra")
	require.Len(t, h.firewalls(), 2)
}
