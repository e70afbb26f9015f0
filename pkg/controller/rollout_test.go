// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

var rollTime = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func withFirewallSpec(image string) func(client.Object) {
	return func(obj client.Object) {
		obj.(*v1alpha4.MetalStackCluster).Spec.FirewallSpec = &v1alpha4.MetalStackFirewallSpec{
			Image: image, MachineType: "v1-small-x86",
			Rules: &v1alpha4.FirewallRules{Egress: []v1alpha4.FirewallEgressRule{{Protocol: "tcp", Ports: []int32{443}, To: []string{"0.0.0.0/0"}}}},
		}
	}
}

// firewallOf is a firewall that the cluster owns, like its spec.
func firewallOf(cluster *v1alpha4.MetalStackCluster, name string, changes ...func(*v1alpha4.MetalStackFirewall)) *v1alpha4.MetalStackFirewall {
	f := newFirewall(cluster, nil)
	f.Name, f.UID, f.Finalizers = name, types.UID("uid-of-"+name), []string{infrastructure.FirewallFinalizer}
	f.CreationTimestamp = metav1.NewTime(rollTime.Add(-time.Hour))
	for _, change := range changes {
		change(f)
	}
	return f
}

func readyCondition(f *v1alpha4.MetalStackFirewall, status metav1.ConditionStatus, reason string, since time.Time) {
	f.Status.Ready = status == metav1.ConditionTrue
	f.Status.Conditions = []metav1.Condition{{
		Type: infrastructure.ConditionReady, Status: status, Reason: reason, Message: reason + "!", LastTransitionTime: metav1.NewTime(since),
	}}
	if f.Status.Allocation == nil {
		f.Status.Allocation = &v1alpha4.MachineAllocation{AllocationState: v1alpha4.AllocationState{
			Phase: v1alpha4.AllocationAllocated, StartTime: &metav1.Time{Time: rollTime.Add(-time.Hour)},
		}, MachineID: "id-of-" + f.Name}
	}
}

func home(f *v1alpha4.MetalStackFirewall) {
	f.Spec.ProviderID = "metal://fra-01/e0ab02d2-27cd-5a5e-8efc-080ba80cf258"
	f.Status.Initialization.Provisioned = ptr.To(true)
	readyCondition(f, metav1.ConditionTrue, infrastructure.ReasonPhonedHome, rollTime.Add(-time.Hour))
}

// unwritten is a firewall of which it is seen, but not written down yet, that it
// has phoned home.
func unwritten(f *v1alpha4.MetalStackFirewall) { f.Status.Initialization.Provisioned = nil }

func installing(f *v1alpha4.MetalStackFirewall) {
	readyCondition(f, metav1.ConditionFalse, infrastructure.ReasonProvisioning, rollTime.Add(-time.Hour))
	f.Status.Allocation.StartTime = &metav1.Time{Time: rollTime.Add(-10 * time.Minute)}
}

// silent is a firewall that served, and has not been heard of since a minute ago.
func silent(f *v1alpha4.MetalStackFirewall) {
	home(f)
	readyCondition(f, metav1.ConditionUnknown, infrastructure.ReasonUnreachable, rollTime.Add(-time.Minute))
}

func longSilent(f *v1alpha4.MetalStackFirewall) {
	home(f)
	readyCondition(f, metav1.ConditionUnknown, infrastructure.ReasonUnreachable, rollTime.Add(-16*time.Minute))
}

func gone(f *v1alpha4.MetalStackFirewall) {
	home(f)
	readyCondition(f, metav1.ConditionFalse, infrastructure.ReasonAllocationGone, rollTime)
}

func crashing(f *v1alpha4.MetalStackFirewall) {
	readyCondition(f, metav1.ConditionFalse, infrastructure.ReasonCrashLoop, rollTime.Add(-16*time.Minute))
}

// restored is a firewall that names its machine and has lost its status.
func restored(f *v1alpha4.MetalStackFirewall) {
	home(f)
	f.Status = v1alpha4.MetalStackFirewallStatus{}
}

// unseen is a restored firewall whose machine the server has not observed yet.
func unseen(f *v1alpha4.MetalStackFirewall) {
	restored(f)
	readyCondition(f, metav1.ConditionUnknown, infrastructure.ReasonNotObserved, rollTime)
}

// refused is a restored firewall whose machine the server refused.
func refused(f *v1alpha4.MetalStackFirewall) {
	restored(f)
	f.Status.Conditions = []metav1.Condition{{
		Type: infrastructure.ConditionAllocated, Status: metav1.ConditionFalse, Reason: infrastructure.ReasonAllocationRefused, Message: "no such machine",
	}}
}

// adoptedSilent is a restored firewall that was adopted, and is silent.
func adoptedSilent(f *v1alpha4.MetalStackFirewall) {
	silent(f)
	f.Status.Initialization.Provisioned = nil
}

func allocating(f *v1alpha4.MetalStackFirewall) {
	restored(f)
	f.Status.Allocation = &v1alpha4.MachineAllocation{AllocationState: v1alpha4.AllocationState{Phase: v1alpha4.AllocationAllocating}}
}

func outdated(f *v1alpha4.MetalStackFirewall) { f.Spec.Image = "firewall-1" }

func younger(f *v1alpha4.MetalStackFirewall) { f.CreationTimestamp = metav1.NewTime(rollTime) }

func going(f *v1alpha4.MetalStackFirewall) { f.DeletionTimestamp = ptr.To(metav1.NewTime(rollTime)) }

func TestPlanRollout(t *testing.T) {
	t.Parallel()
	type change = []func(*v1alpha4.MetalStackFirewall)
	for name, c := range map[string]struct {
		firewalls map[string]change
		create    bool
		retire    []string
		status    metav1.ConditionStatus
		reason    string
	}{
		"none yet":                              {nil, true, nil, "False", "Provisioning"},
		"one on its way":                        {map[string]change{"a": {installing}}, false, nil, "False", "Provisioning"},
		"one that runs":                         {map[string]change{"a": {home}}, false, nil, "True", "PhonedHome"},
		"spec changed":                          {map[string]change{"a": {home, outdated}}, true, nil, "False", "RollingOut"},
		"new one on its way":                    {map[string]change{"a": {home, outdated}, "b": {installing}}, false, nil, "False", "RollingOut"},
		"phoned home a moment ago":              {map[string]change{"a": {home, unwritten, outdated}, "b": {installing}}, false, nil, "False", "RollingOut"},
		"new one phoned home":                   {map[string]change{"a": {home, outdated}, "b": {home}}, false, []string{"a"}, "True", "PhonedHome"},
		"old one on its way out":                {map[string]change{"a": {home, outdated, going}, "b": {home}}, false, nil, "True", "PhonedHome"},
		"changed again before it phoned home":   {map[string]change{"a": {home, outdated}, "b": {installing, outdated}, "c": {installing}}, false, []string{"b"}, "False", "RollingOut"},
		"changed back":                          {map[string]change{"a": {home}, "b": {installing, outdated}}, false, []string{"b"}, "True", "PhonedHome"},
		"old one is silent while new installs":  {map[string]change{"a": {silent, outdated}, "b": {installing}}, false, nil, "False", "RollingOut"},
		"restored in a roll":                    {map[string]change{"a": {restored, outdated}, "b": {restored, younger}}, false, nil, "False", "RollingOut"},
		"restored in a roll, new one known":     {map[string]change{"a": {restored, outdated}, "b": {installing}}, false, nil, "False", "RollingOut"},
		"restored in a roll, new one is home":   {map[string]change{"a": {restored, outdated}, "b": {home}}, false, nil, "True", "PhonedHome"},
		"restored in a roll, not observed yet":  {map[string]change{"a": {unseen, outdated}, "b": {installing}}, false, nil, "False", "RollingOut"},
		"restored in a roll, being adopted":     {map[string]change{"a": {allocating, outdated}, "b": {installing}}, false, nil, "False", "RollingOut"},
		"restored in a roll, old one silent":    {map[string]change{"a": {adoptedSilent, outdated}, "b": {installing}}, false, nil, "False", "RollingOut"},
		"restored in a roll, old one refused":   {map[string]change{"a": {refused, outdated}, "b": {installing}}, false, []string{"a"}, "False", "RollingOut"},
		"restored, unlike the spec":             {map[string]change{"a": {restored, outdated}}, false, nil, "False", "Provisioning"},
		"restored, unlike the spec, refused":    {map[string]change{"a": {refused, outdated}}, true, nil, "False", "RollingOut"},
		"restored, one more like the spec":      {map[string]change{"a": {installing}, "b": {restored, younger}}, false, nil, "False", "RollingOut"},
		"gone":                                  {map[string]change{"a": {gone}}, true, nil, "False", "Replacing"},
		"gone, and another phoned home":         {map[string]change{"a": {gone}, "b": {home}}, false, []string{"a"}, "True", "PhonedHome"},
		"silent for a while":                    {map[string]change{"a": {silent}}, false, nil, "False", "NotReady"},
		"silent for long":                       {map[string]change{"a": {longSilent}}, true, nil, "False", "Replacing"},
		"recovered while its replacement boots": {map[string]change{"a": {home}, "b": {installing, younger}}, false, []string{"b"}, "True", "PhonedHome"},
		"crashing for long, never served":       {map[string]change{"a": {crashing}}, true, nil, "False", "Replacing"},
		"crashing one goes at once":             {map[string]change{"a": {crashing}, "b": {installing}}, false, []string{"a"}, "False", "RollingOut"},
		"the only one is being deleted":         {map[string]change{"a": {home, going}}, true, nil, "False", "Replacing"},
		"two that run":                          {map[string]change{"a": {home}, "b": {home, younger}}, false, []string{"b"}, "True", "PhonedHome"},
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
				require.NotEmpty(t, r.reason)
				retire = append(retire, r.firewall.Name)
			}
			require.Equal(t, c.retire, retire)
			require.Equal(t, c.status, plan.status.Status)
			require.Equal(t, c.reason, plan.status.Reason, plan.status.Message)
			require.NotEmpty(t, plan.status.Message)
		})
	}
}

func TestPlanRollout_DeletesFirewallsWithoutFirewallSpec(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	owned := []*v1alpha4.MetalStackFirewall{firewallOf(cluster, "a", home)}
	cluster.Spec.FirewallSpec = nil
	plan := planRollout(cluster, owned, rollTime, NewOptions())
	require.Nil(t, plan.create)
	require.Nil(t, plan.status)
	require.Len(t, plan.deletions, 1)
}

func TestPlanRollout_RequeuesForSilentFirewall(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{firewallOf(cluster, "a", silent)}, rollTime, NewOptions())
	require.Equal(t, 14*time.Minute, plan.requeueAfter)
}

func TestPlanRollout_KeepsUndeterminedFirewall(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	old := firewallOf(cluster, "a", restored, outdated)
	old.Status.Conditions = []metav1.Condition{{Type: infrastructure.ConditionAllocated, Reason: infrastructure.ReasonMetalAPIUnavailable, Message: "the metal-api cannot be reached"}}
	plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{old}, rollTime, NewOptions())
	require.Contains(t, plan.status.Message, "MetalStackFirewall a")
	require.Contains(t, plan.status.Message, "the metal-api cannot be reached", "it says why that is unknown")
	require.Equal(t, fallbackRequeue, plan.requeueAfter)

	cluster.Spec.FirewallSpec.ProviderID = old.Spec.ProviderID
	require.Empty(t, planRollout(cluster, []*v1alpha4.MetalStackFirewall{old}, rollTime, NewOptions()).deletions, "its machine is the one that the spec names")
	cluster.Spec.FirewallSpec = nil
	require.Empty(t, planRollout(cluster, []*v1alpha4.MetalStackFirewall{old}, rollTime, NewOptions()).deletions, "the cluster has no firewallSpec")
}

// outdatedCache shows firewalls as they were before the last write.
type outdatedCache struct {
	client.Client
	shown []v1alpha4.MetalStackFirewall
}

func (c outdatedCache) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if firewalls, of := list.(*v1alpha4.MetalStackFirewallList); of {
		firewalls.Items = c.shown
		return nil
	}
	return c.Client.List(ctx, list, opts...)
}

func TestRollout_KeepsFirewallThatHasChanged(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	old := firewallOf(cluster, "a", installing, outdated)
	h := newHarness(t, clusters, false, cluster, capiCluster(), old, firewallOf(cluster, "b", installing))
	list := &v1alpha4.MetalStackFirewallList{}
	require.NoError(t, h.api.List(t.Context(), list))
	now := h.get(firewalls, "a").(*v1alpha4.MetalStackFirewall)
	home(now)
	h.update(now)
	h.r.cached = outdatedCache{h.api, list.Items}
	_, err := h.r.Reconcile(t.Context(), requestOf("c-infra"))
	require.ErrorContains(t, err, "cannot be fulfilled")
	require.Nil(t, h.get(firewalls, "a").GetDeletionTimestamp(), "it has phoned home meanwhile")
}

func TestPlanRollout_ReplacesFirewallOnANamedMachineInPlace(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	old := firewallOf(cluster, "a", home, outdated)
	cluster.Spec.FirewallSpec.ProviderID = "metalstack://e0ab02d2-27cd-5a5e-8efc-080ba80cf258"
	plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{old}, rollTime, NewOptions())
	require.Nil(t, plan.create, "two cannot have one machine")
	require.Len(t, plan.deletions, 1)

	old.Status.Allocation.Phase = v1alpha4.AllocationReleased
	plan = planRollout(cluster, []*v1alpha4.MetalStackFirewall{old}, rollTime, NewOptions())
	require.NotNil(t, plan.create)
}

func TestFirewallName_FollowsFromTheSpec(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	first := newFirewall(cluster, nil)
	require.Equal(t, first.Name, newFirewall(cluster, nil).Name, "asked twice, it is the same one")
	require.True(t, strings.HasPrefix(first.Name, "c-infra-firewall-"), first.Name)
	require.Equal(t, "c", first.Labels[infrastructure.ClusterNameLabel])
	require.True(t, metav1.IsControlledBy(first, cluster))
	require.Equal(t, *cluster.Spec.FirewallSpec, first.Spec)

	require.NotEqual(t, first.Name, newFirewall(cluster, []*v1alpha4.MetalStackFirewall{firewallOf(cluster, "a", gone)}).Name, "its replacement is another one")
	changed := cluster.DeepCopy()
	changed.Spec.FirewallSpec.Image = "firewall-3"
	require.NotEqual(t, first.Name, newFirewall(changed, nil).Name)
	long := cluster.DeepCopy()
	long.Name = strings.Repeat("c", 63)
	require.LessOrEqual(t, len(newFirewall(long, nil).Name), 63, "it becomes a hostname")
	moved := cluster.DeepCopy()
	moved.UID = "another"
	require.Equal(t, first.Name, newFirewall(moved, nil).Name, "a move changes no name")
}

// A name that changed would have every firewall replaced at an update.
func TestFirewallName_IsThatOfEarlierVersions(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	require.Equal(t, "c-infra-firewall-01a0a91d", newFirewall(cluster, nil).Name)
	require.Equal(t, "c-infra-firewall-ff2ba127", newFirewall(cluster, []*v1alpha4.MetalStackFirewall{firewallOf(cluster, "a", gone)}).Name)
}

func TestFirewallName_OfAClusterWithDotsIsADNSName(t *testing.T) {
	t.Parallel()
	for _, cluster := range []string{"prod.example", strings.Repeat("a.", 31) + "a", strings.Repeat("a", 44) + ".-b"} {
		name := firewallName(cluster, &v1alpha4.MetalStackFirewallSpec{}, nil)
		require.Empty(t, validation.IsDNS1123Subdomain(name), name)
		require.LessOrEqual(t, len(name), validation.DNS1123LabelMaxLength)
	}
}
