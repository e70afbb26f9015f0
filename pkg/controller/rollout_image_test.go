// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func withAutoUpdate(window *v1alpha4.MaintenanceWindow) func(client.Object) {
	return func(obj client.Object) {
		obj.(*v1alpha4.MetalStackCluster).Spec.FirewallSpec.AutoUpdate = &v1alpha4.FirewallAutoUpdate{MaintenanceWindow: window}
	}
}

// oldImage is a firewall of whose image there is a newer one.
func oldImage(newer string) func(*v1alpha4.MetalStackFirewall) {
	return func(f *v1alpha4.MetalStackFirewall) {
		meta.SetStatusCondition(&f.Status.Conditions, metav1.Condition{
			Type: infrastructure.ConditionImageUpToDate, Status: metav1.ConditionFalse, Reason: infrastructure.ReasonNewerImageAvailable,
			Message: infrastructure.NewerImageMessage("firewall-2", newer, f.Status.Allocation.MachineID, "firewall-2.1"),
		})
	}
}

func TestPlanRollout_ReplacesFirewallForANewerImage(t *testing.T) {
	t.Parallel()
	// rollTime is a Thursday, 12:00.
	open := &v1alpha4.MaintenanceWindow{Begin: "11:30", Duration: metav1.Duration{Duration: time.Hour}}
	later := &v1alpha4.MaintenanceWindow{Begin: "12:20", Duration: metav1.Duration{Duration: time.Hour}}
	saturday := &v1alpha4.MaintenanceWindow{Days: []string{"Sat"}, Begin: "11:30", Duration: metav1.Duration{Duration: time.Hour}}
	unknownZone := &v1alpha4.MaintenanceWindow{Begin: "11:30", Duration: metav1.Duration{Duration: time.Hour}, TimeZone: "Europe/Atlantis"}
	for name, c := range map[string]struct {
		update  func(client.Object)
		changes []func(*v1alpha4.MetalStackFirewall)
		replace bool
		requeue time.Duration
	}{
		"at any time":            {withAutoUpdate(nil), []func(*v1alpha4.MetalStackFirewall){home, oldImage("firewall-2.2")}, true, 0},
		"up to date":             {withAutoUpdate(nil), []func(*v1alpha4.MetalStackFirewall){home}, false, 0},
		"not asked for":          {func(client.Object) {}, []func(*v1alpha4.MetalStackFirewall){home, oldImage("firewall-2.2")}, false, 0},
		"window is open":         {withAutoUpdate(open), []func(*v1alpha4.MetalStackFirewall){home, oldImage("firewall-2.2")}, true, 0},
		"window begins later":    {withAutoUpdate(later), []func(*v1alpha4.MetalStackFirewall){home, oldImage("firewall-2.2")}, false, 20 * time.Minute},
		"window of another day":  {withAutoUpdate(saturday), []func(*v1alpha4.MetalStackFirewall){home, oldImage("firewall-2.2")}, false, time.Hour},
		"window of unknown zone": {withAutoUpdate(unknownZone), []func(*v1alpha4.MetalStackFirewall){home, oldImage("firewall-2.2")}, false, time.Hour},
		"it does not run":        {withAutoUpdate(nil), []func(*v1alpha4.MetalStackFirewall){silent, oldImage("firewall-2.2")}, false, 14 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := infraCluster(withFirewallSpec("firewall-2"), c.update).(*v1alpha4.MetalStackCluster)
			f := firewallOf(cluster, "f", c.changes...)
			plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{f}, rollTime, NewOptions())
			require.Equal(t, c.replace, plan.create != nil)
			require.Empty(t, plan.deletions, "it serves until then")
			require.Equal(t, c.requeue, plan.requeueAfter)
			if c.replace {
				require.Contains(t, plan.createReason, "firewall-2.2")
			}
			if c.requeue == 20*time.Minute {
				require.Equal(t, "MetalStackFirewall f has phoned home. A newer image is available, and the maintenance window begins at 2026-01-01T12:20:00Z", plan.status.Message)
			}
		})
	}
}

func TestPlanRollout_FinishesUpdateAfterTheMaintenanceWindow(t *testing.T) {
	t.Parallel()
	window := &v1alpha4.MaintenanceWindow{Begin: "03:00", Duration: metav1.Duration{Duration: time.Hour}}
	cluster := infraCluster(withFirewallSpec("firewall-2"), withAutoUpdate(window)).(*v1alpha4.MetalStackCluster)
	old := firewallOf(cluster, "old", home, oldImage("firewall-2.2"))
	plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{old, firewallOf(cluster, "new", installing, younger, allocatedAgo(0))}, rollTime, NewOptions())
	require.Empty(t, plan.deletions)
	require.Equal(t, infrastructure.ReasonFirewallRollingOut, plan.status.Reason)
	plan = planRollout(cluster, []*v1alpha4.MetalStackFirewall{old, firewallOf(cluster, "new", home, younger)}, rollTime, NewOptions())
	require.Len(t, plan.deletions, 1)
	require.Equal(t, old, plan.deletions[0].firewall)

	late := firewallOf(cluster, "new", installing, younger, allocatedAgo(2*time.Hour))
	plan = planRollout(cluster, []*v1alpha4.MetalStackFirewall{old, late}, rollTime, NewOptions())
	require.Nil(t, plan.create)
	require.Len(t, plan.deletions, 1, "the old one works, and the next attempt is for the next window")
	require.Equal(t, late, plan.deletions[0].firewall)
}

func TestPlanRollout_BeginsNoUpdateBesideAnotherFirewall(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2"), withAutoUpdate(nil)).(*v1alpha4.MetalStackCluster)
	f := firewallOf(cluster, "f", home, oldImage("firewall-2.2"))
	for name, c := range map[string]struct {
		other  []func(*v1alpha4.MetalStackFirewall)
		create bool
	}{
		"that holds metal":     {[]func(*v1alpha4.MetalStackFirewall){home, outdated, going}, false},
		"that has released it": {[]func(*v1alpha4.MetalStackFirewall){released, outdated, going}, true},
	} {
		plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{f, firewallOf(cluster, "other", c.other...)}, rollTime, NewOptions())
		require.Equal(t, c.create, plan.create != nil, name)
	}
}

// The condition is absent until the server has listed images.
func TestPlanRollout_FinishesUpdateWhileImagesAreUnknown(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2"), withAutoUpdate(nil)).(*v1alpha4.MetalStackCluster)
	old := firewallOf(cluster, "old", home)
	successor := firewallOf(cluster, "new", installing, younger, allocatedAgo(0))
	successor.Annotations = map[string]string{infrastructure.UpdatedForAnnotation: "firewall-2.2"}
	plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{old, successor}, rollTime, NewOptions())
	require.Nil(t, plan.create)
	require.Empty(t, plan.deletions, "it was made for a newer image")
	require.Equal(t, infrastructure.ReasonFirewallRollingOut, plan.status.Reason)
	home(successor)
	plan = planRollout(cluster, []*v1alpha4.MetalStackFirewall{old, successor}, rollTime, NewOptions())
	require.Len(t, plan.deletions, 1)
	require.Equal(t, old, plan.deletions[0].firewall)
}

// The alias of the metal-api may stand for the old image still.
func TestPlanRollout_ReplacesFirewallOncePerNewerImage(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2"), withAutoUpdate(nil)).(*v1alpha4.MetalStackCluster)
	f := firewallOf(cluster, "f", home, oldImage("firewall-2.2"))
	created := planRollout(cluster, []*v1alpha4.MetalStackFirewall{f}, rollTime, NewOptions()).create
	require.NotNil(t, created)

	successor := created.DeepCopy()
	successor.CreationTimestamp, successor.UID = metav1.NewTime(rollTime), "uid-of-successor"
	require.Equal(t, map[string]string{infrastructure.UpdatedForAnnotation: "firewall-2.2"}, created.Annotations)
	home(successor)
	oldImage("firewall-2.2")(successor)
	plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{f, successor}, rollTime, NewOptions())
	require.Len(t, plan.deletions, 1)
	require.Equal(t, f, plan.deletions[0].firewall, "the roll is finished")
	plan = planRollout(cluster, []*v1alpha4.MetalStackFirewall{successor}, rollTime, NewOptions())
	require.Nil(t, plan.create, "it was made for that one")

	meta.FindStatusCondition(successor.Status.Conditions, infrastructure.ConditionImageUpToDate).Message = infrastructure.NewerImageMessage("firewall-2", "firewall-2.2", "another", "firewall-2.1.5")
	require.Nil(t, planRollout(cluster, []*v1alpha4.MetalStackFirewall{successor}, rollTime, NewOptions()).create, "it has an image in between")

	oldImage("firewall-2.3")(successor)
	plan = planRollout(cluster, []*v1alpha4.MetalStackFirewall{successor}, rollTime, NewOptions())
	require.NotNil(t, plan.create, "there is another one")
	require.NotEqual(t, created.Name, plan.create.Name)
	require.NotEqual(t, created.Annotations, plan.create.Annotations)
}
