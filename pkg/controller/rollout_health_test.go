// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// allocatedAgo has an allocation be as old as that at rollTime.
func allocatedAgo(age time.Duration) func(*v1alpha4.MetalStackFirewall) {
	return func(f *v1alpha4.MetalStackFirewall) {
		f.Status.Allocation.StartTime = &metav1.Time{Time: rollTime.Add(-age)}
	}
}

func TestPlanRollout_ReplacesFirewallThatDoesNotPhoneHome(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		timeout time.Duration
		changes []func(*v1alpha4.MetalStackFirewall)
		replace bool
		requeue time.Duration
	}{
		"in time by default":       {0, []func(*v1alpha4.MetalStackFirewall){installing, allocatedAgo(50 * time.Minute)}, false, 10 * time.Minute},
		"too late by default":      {0, []func(*v1alpha4.MetalStackFirewall){installing, allocatedAgo(time.Hour)}, true, 0},
		"in time by the spec":      {2 * time.Hour, []func(*v1alpha4.MetalStackFirewall){installing, allocatedAgo(time.Hour)}, false, time.Hour},
		"too late by the spec":     {10 * time.Minute, []func(*v1alpha4.MetalStackFirewall){installing, allocatedAgo(11 * time.Minute)}, true, 0},
		"not observed":             {0, []func(*v1alpha4.MetalStackFirewall){unseen, allocatedAgo(5 * time.Hour)}, false, fallbackRequeue},
		"allocation not known yet": {0, []func(*v1alpha4.MetalStackFirewall){allocating}, false, fallbackRequeue},
		"has phoned home":          {0, []func(*v1alpha4.MetalStackFirewall){home, allocatedAgo(5 * time.Hour)}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
			if c.timeout > 0 {
				cluster.Spec.FirewallSpec.ProvisioningTimeout = &metav1.Duration{Duration: c.timeout}
			}
			f := firewallOf(cluster, "f", c.changes...)
			plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{f}, rollTime, NewOptions())
			require.Equal(t, c.replace, plan.create != nil)
			require.Equal(t, c.requeue, plan.requeueAfter)
			if c.replace {
				require.Contains(t, plan.createReason, "it has not phoned home since its allocation at 2026-01-01T")
				require.Equal(t, infrastructure.ReasonFirewallReplacing, plan.status.Reason)
				successor := firewallOf(cluster, plan.create.Name, installing, allocatedAgo(0))
				plan = planRollout(cluster, []*v1alpha4.MetalStackFirewall{f, successor}, rollTime, NewOptions())
				require.Len(t, plan.deletions, 1, "it has never served")
			}
		})
	}
}

// reinstalling is a firewall that served, and was seen to leave its operating system so long ago.
func reinstalling(ago time.Duration) func(*v1alpha4.MetalStackFirewall) {
	return func(f *v1alpha4.MetalStackFirewall) {
		home(f)
		readyCondition(f, metav1.ConditionFalse, infrastructure.ReasonReinstalling, rollTime.Add(-ago))
	}
}

// requestedAgo is a firewall that crashed three hours ago, and whose reinstallation was requested so
// long ago.
func requestedAgo(ago time.Duration, outcome v1alpha4.MachineOperationOutcome, allocation string) func(*v1alpha4.MetalStackFirewall) {
	return func(f *v1alpha4.MetalStackFirewall) {
		reinstalling(3 * time.Hour)(f)
		requested := metav1.NewMicroTime(rollTime.Add(-ago))
		f.Status.LastOperation = &v1alpha4.MachineOperation{
			Action: infrastructure.OperationReinstall, AllocationUUID: f.Status.Allocation.AllocationUUID + allocation, RequestTime: &requested, Outcome: outcome,
		}
	}
}

func TestPlanRollout_KeepsFirewallThatIsReinstalled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		timeout time.Duration
		change  func(*v1alpha4.MetalStackFirewall)
		replace bool
		requeue time.Duration
	}{
		"begun":                     {0, reinstalling(0), false, time.Hour},
		"longer than one may crash": {0, reinstalling(50 * time.Minute), false, 10 * time.Minute},
		"too late by default":       {0, reinstalling(time.Hour), true, 0},
		"in time by the spec":       {2 * time.Hour, reinstalling(time.Hour), false, time.Hour},
		"crashed before":            {0, requestedAgo(10*time.Minute, v1alpha4.OperationSent, ""), false, 50 * time.Minute},
		"too late after a crash":    {0, requestedAgo(time.Hour, v1alpha4.OperationSent, ""), true, 0},
		"refused":                   {0, requestedAgo(10*time.Minute, v1alpha4.OperationRefused, ""), true, 0},
		"of an earlier allocation":  {0, requestedAgo(10*time.Minute, v1alpha4.OperationSent, "another"), true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
			if c.timeout > 0 {
				cluster.Spec.FirewallSpec.ProvisioningTimeout = &metav1.Duration{Duration: c.timeout}
			}
			f := firewallOf(cluster, "f", c.change, allocatedAgo(5*time.Hour))
			plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{f}, rollTime, NewOptions())
			require.Equal(t, c.replace, plan.create != nil)
			require.Empty(t, plan.deletions)
			require.Equal(t, c.requeue, plan.requeueAfter)
			if c.replace {
				require.Contains(t, plan.createReason, "its reinstallation has not ended since 2026-01-01T")
			} else {
				require.Equal(t, infrastructure.ReasonFirewallNotReady, plan.status.Reason)
			}
		})
	}
}

func TestPlanRollout_SuccessorThatDoesNotPhoneHomeMakesRoom(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	old, late := firewallOf(cluster, "old", home, outdated), firewallOf(cluster, "late", installing, allocatedAgo(2*time.Hour))
	plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{old, late}, rollTime, NewOptions())
	require.Nil(t, plan.create)
	require.Len(t, plan.deletions, 1)
	require.Equal(t, late, plan.deletions[0].firewall)
	require.Contains(t, plan.deletions[0].reason, "it has not phoned home since")
}

func TestPlanRollout_ReplacesFirewallWhoseControllerIsSilent(t *testing.T) {
	t.Parallel()
	silentFor := func(d time.Duration) func(*v1alpha4.MetalStackFirewall) {
		return connection("False", infrastructure.ReasonControllerSilent, d)
	}
	for name, c := range map[string]struct {
		timeout time.Duration
		change  func(*v1alpha4.MetalStackFirewall)
		replace bool
		requeue time.Duration
	}{
		"silent, no limit":                   {0, silentFor(100 * time.Hour), false, 0},
		"silent for less than the limit":     {30 * time.Minute, silentFor(20 * time.Minute), false, 10 * time.Minute},
		"silent for longer":                  {30 * time.Minute, silentFor(30 * time.Minute), true, 0},
		"workload cluster cannot be read":    {30 * time.Minute, connection("Unknown", "WorkloadClusterUnreachable", 5*time.Hour), false, 0},
		"has no kubeconfig":                  {30 * time.Minute, connection("False", infrastructure.ReasonNoKubeconfig, 5*time.Hour), false, 0},
		"has never reported, and is alone":   {30 * time.Minute, connection("False", infrastructure.ReasonControllerNeverReported, 5*time.Hour), false, 0},
		"reports":                            {30 * time.Minute, connected, false, 0},
		"nothing is known of its connection": {30 * time.Minute, func(*v1alpha4.MetalStackFirewall) {}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := infraCluster(withFirewallSpec("firewall-2"), withFirewallController).(*v1alpha4.MetalStackCluster)
			if c.timeout > 0 {
				cluster.Spec.FirewallSpec.Controller.SilenceTimeout = &metav1.Duration{Duration: c.timeout}
			}
			f := firewallOf(cluster, "f", home, c.change)
			plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{f}, rollTime, NewOptions())
			require.Equal(t, c.replace, plan.create != nil)
			require.Empty(t, plan.deletions, "it serves until then")
			require.Equal(t, c.requeue, plan.requeueAfter)
		})
	}
}

func TestPlanRollout_ReplacesSuccessorThatDoesNotConnect(t *testing.T) {
	t.Parallel()
	never := func(ago time.Duration) func(*v1alpha4.MetalStackFirewall) {
		return connection("False", infrastructure.ReasonControllerNeverReported, ago)
	}
	for name, c := range map[string]struct {
		old, successor []func(*v1alpha4.MetalStackFirewall)
		replace        bool
	}{
		"in time":                         {nil, []func(*v1alpha4.MetalStackFirewall){never(2 * time.Hour), allocatedAgo(50 * time.Minute)}, false},
		"too late":                        {nil, []func(*v1alpha4.MetalStackFirewall){never(2 * time.Hour), allocatedAgo(time.Hour)}, true},
		"known for less than the timeout": {nil, []func(*v1alpha4.MetalStackFirewall){never(time.Minute), allocatedAgo(3 * time.Hour)}, false},
		"not known":                       {nil, []func(*v1alpha4.MetalStackFirewall){connection("Unknown", "WorkloadClusterUnreachable", 3*time.Hour), allocatedAgo(3 * time.Hour)}, false},
		"no kubeconfig":                   {nil, []func(*v1alpha4.MetalStackFirewall){connection("False", infrastructure.ReasonNoKubeconfig, 3*time.Hour), allocatedAgo(3 * time.Hour)}, true},
		"old one does not serve":          {[]func(*v1alpha4.MetalStackFirewall){silent}, []func(*v1alpha4.MetalStackFirewall){never(2 * time.Hour), allocatedAgo(time.Hour)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := infraCluster(withFirewallSpec("firewall-2"), withFirewallController).(*v1alpha4.MetalStackCluster)
			old := firewallOf(cluster, "old", append([]func(*v1alpha4.MetalStackFirewall){home, connected, outdated}, c.old...)...)
			successor := firewallOf(cluster, "new", append([]func(*v1alpha4.MetalStackFirewall){home, at(3, time.Hour), younger}, c.successor...)...)
			plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{old, successor}, rollTime, NewOptions())
			require.Nil(t, plan.create)
			replaced := len(plan.deletions) == 1 && plan.deletions[0].firewall == successor
			require.Equal(t, c.replace, replaced, "%v", plan.deletions)
			if c.replace {
				require.Contains(t, plan.deletions[0].reason, "its firewall-controller has not connected since")
				require.Empty(t, plan.distances, "the old one keeps the traffic")
			}
		})
	}
}

func TestPlanRollout_ReplacesFirewallWithTheAnnotation(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2"), withFirewallController).(*v1alpha4.MetalStackCluster)
	f := firewallOf(cluster, newFirewall(cluster, nil).Name, home, connected)
	f.Annotations = map[string]string{infrastructure.ReplaceAnnotation: "secret\nvalue"}
	plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{f}, rollTime, NewOptions())
	require.NotNil(t, plan.create)
	require.NotEqual(t, f.Name, plan.create.Name)
	require.Empty(t, plan.create.Annotations)
	require.Equal(t, infrastructure.ReasonFirewallReplacing, plan.status.Reason)
	require.NotContains(t, plan.status.Message, "secret")
	require.Empty(t, plan.deletions, "it serves until then")

	again := planRollout(cluster, []*v1alpha4.MetalStackFirewall{f}, rollTime, NewOptions())
	require.Equal(t, plan.create.Name, again.create.Name)
	successor := firewallOf(cluster, plan.create.Name, home, connected, at(0, 0), reports(0), younger)
	at(8, 0)(f)
	reports(8)(f)
	plan = planRollout(cluster, []*v1alpha4.MetalStackFirewall{f, successor}, rollTime, NewOptions())
	require.Nil(t, plan.create)
	require.Len(t, plan.deletions, 1)
	require.Contains(t, plan.deletions[0].reason, infrastructure.ReplaceAnnotation)
}

// staleServer answers gets of objects with what it observed before.
type staleServer struct{ client.Client }

func (s staleServer) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	staleReads{rest.NoWarnings{}}.HandleWarningHeaderWithContext(ctx, 299, "-", "metalstackfirewalls: stale: last observed at 2026-01-01T00:00:00Z: the metal-api does not answer")
	return s.Client.Get(ctx, key, obj, opts...)
}

func TestRollout_ConcludesNothingFromAStaleAnswer(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	late := firewallOf(cluster, "late", installing)
	late.Spec.ProviderID = "metal://fra-01/e0ab02d2-27cd-5a5e-8efc-080ba80cf258"
	h := newHarness(t, clusters, false, cluster, capiCluster(), late)
	h.clock.SetTime(rollTime.Add(5 * time.Hour))
	h.r.live = staleServer{h.api}
	require.Equal(t, fallbackRequeue, h.reconcile("c-infra").RequeueAfter)
	require.Len(t, h.firewalls(), 1)

	h.r.live = h.api
	h.reconcile("c-infra")
	require.Len(t, h.firewalls(), 2)
	h.reconcile("c-infra")
	require.NotNil(t, h.get(firewalls, "late").GetDeletionTimestamp())
	require.Contains(t, strings.Join(h.takeEvents(), "\n"), "it has not phoned home since its allocation at")
}

// The cache may not show yet that a firewall has phoned home.
func TestRollout_ReadsOverdueFirewallFromTheServer(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	h := newHarness(t, clusters, false, cluster, capiCluster(), firewallOf(cluster, "f", installing))
	shown := *h.get(firewalls, "f").(*v1alpha4.MetalStackFirewall)
	now := shown.DeepCopy()
	home(now)
	h.update(now)
	h.clock.SetTime(rollTime.Add(5 * time.Hour))
	h.r.cached = outdatedCache{h.api, []v1alpha4.MetalStackFirewall{shown}}
	h.reconcile("c-infra")
	require.Len(t, h.firewalls(), 1)
	require.Nil(t, h.get(firewalls, "f").GetDeletionTimestamp())
}

func TestStaleReads_AreNotedForTheReadThatAskedOnly(t *testing.T) {
	t.Parallel()
	handler := staleReads{rest.NoWarnings{}}
	one, staleOne := watchForStaleReads(t.Context())
	other, staleOther := watchForStaleReads(t.Context())
	handler.HandleWarningHeaderWithContext(t.Context(), 299, "-", "x: stale: y")
	handler.HandleWarningHeaderWithContext(other, 299, "-", "spec.image: not validated")
	handler.HandleWarningHeaderWithContext(one, 299, "-", "metalstackfirewalls: stale: not observed since the server started")
	require.True(t, staleOne())
	require.False(t, staleOther())
}
