// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

func withFirewallController(obj client.Object) {
	obj.(*v1alpha4.MetalStackCluster).Spec.FirewallSpec.Controller = &v1alpha4.FirewallController{}
}

// connection sets the condition ControllerConnected as it is since some time before rollTime.
func connection(status metav1.ConditionStatus, reason string, ago time.Duration) func(*v1alpha4.MetalStackFirewall) {
	return func(f *v1alpha4.MetalStackFirewall) {
		meta.SetStatusCondition(&f.Status.Conditions, metav1.Condition{
			Type: infrastructure.ConditionControllerConnected, Status: status, Reason: reason, Message: reason + "!",
			LastTransitionTime: metav1.NewTime(rollTime.Add(-ago)),
		})
	}
}

func connected(f *v1alpha4.MetalStackFirewall) {
	connection(metav1.ConditionTrue, "Connected", time.Hour)(f)
	reports(f.Status.Distance)(f)
}

// at gives a firewall a distance, since some time before rollTime.
func at(distance int32, ago time.Duration) func(*v1alpha4.MetalStackFirewall) {
	return func(f *v1alpha4.MetalStackFirewall) {
		setDistance(&f.Status, firewallDistance{distance: distance, applied: metav1.ConditionFalse}, rollTime.Add(-ago))
	}
}

// reports is what a firewall-controller reports as its distance.
func reports(distance int32) func(*v1alpha4.MetalStackFirewall) {
	return func(f *v1alpha4.MetalStackFirewall) {
		f.Status.Controller = &v1alpha4.FirewallControllerStatus{Distance: ptr.To(distance)}
		if c := distanceCondition(f); c != nil && f.Status.Distance == distance {
			c.Status = metav1.ConditionTrue
		}
	}
}

// lastRun is when a firewall-controller has reported last.
func lastRun(ago time.Duration) func(*v1alpha4.MetalStackFirewall) {
	return func(f *v1alpha4.MetalStackFirewall) {
		f.Status.Controller.LastRun = &metav1.Time{Time: rollTime.Add(-ago)}
	}
}

// bareDistance is a distance of a firewall-controller that knows of none.
func bareDistance(distance int32) func(*v1alpha4.MetalStackFirewall) {
	return func(f *v1alpha4.MetalStackFirewall) { f.Status.Distance = distance }
}

func createdAgo(age time.Duration) func(*v1alpha4.MetalStackFirewall) {
	return func(f *v1alpha4.MetalStackFirewall) { f.CreationTimestamp = metav1.NewTime(rollTime.Add(-age)) }
}

// withoutDistance is a firewall-controller of a version that knows of no distance.
func withoutDistance(f *v1alpha4.MetalStackFirewall) {
	f.Status.Controller = &v1alpha4.FirewallControllerStatus{Version: "v1"}
}

func TestPlanRollout_ExchangesFirewallsByDistance(t *testing.T) {
	t.Parallel()
	type changes = []func(*v1alpha4.MetalStackFirewall)
	never := connection("False", infrastructure.ReasonControllerNeverReported, time.Minute)
	unreachable := connection("Unknown", "WorkloadClusterUnreachable", 10*time.Second)
	unreachableForLong := connection("Unknown", "WorkloadClusterUnreachable", time.Hour)
	noKubeconfig := connection("False", infrastructure.ReasonNoKubeconfig, time.Hour)
	justNow := func(f *v1alpha4.MetalStackFirewall) { f.Status.Allocation.StartTime = &metav1.Time{Time: rollTime} }
	for name, c := range map[string]struct {
		old, successor changes
		distances      []string
		retire         bool
		reason         string
		requeue        time.Duration
	}{
		"successor installs":                       {changes{home, connected}, changes{installing, justNow}, []string{"new 3"}, false, "RollingOut", time.Hour},
		"successor installs, and has its distance": {changes{home, connected}, changes{installing, justNow, at(3, 0)}, nil, false, "RollingOut", time.Hour},
		"successor has not connected":              {changes{home, connected}, changes{home, justNow, at(3, 0), never}, nil, false, "RollingOut", time.Hour},
		"nothing is known of its connection":       {changes{home, connected}, changes{home, at(3, 0)}, nil, false, "RollingOut", 0},
		"its workload cluster is unreachable":      {changes{home, connected}, changes{home, at(3, 0), unreachableForLong}, nil, false, "RollingOut", 0},
		"successor has connected":                  {changes{home, connected}, changes{home, at(3, time.Hour), connected}, []string{"old 8"}, false, "RollingOut", 0},
		"old one does not report yet":              {changes{home, connected, at(8, 20*time.Second)}, changes{home, at(3, time.Hour), connected}, nil, false, "RollingOut", 160 * time.Second},
		"old one does not report in time":          {changes{home, connected, at(8, 3*time.Minute)}, changes{home, at(3, time.Hour), connected}, []string{"new 0"}, false, "RollingOut", 3 * time.Minute},
		"old one reports":                          {changes{home, connected, at(8, 0), reports(8)}, changes{home, at(3, time.Hour), connected}, []string{"new 0"}, false, "RollingOut", 3 * time.Minute},
		"old one knows of no distance":             {changes{home, connected, at(8, 0), withoutDistance}, changes{home, at(3, time.Hour), connected}, []string{"new 0", "old 8"}, false, "RollingOut", 3 * time.Minute},
		"old one is not connected":                 {changes{home, at(8, 0), noKubeconfig}, changes{home, at(3, time.Hour), connected}, []string{"new 0"}, false, "RollingOut", 3 * time.Minute},
		"successor does not report yet":            {changes{home, connected, at(8, time.Minute), reports(8)}, changes{home, connected, at(0, 30*time.Second), reports(3)}, nil, false, "RollingOut", 150 * time.Second},
		"successor does not report in time":        {changes{home, connected, at(8, time.Hour), reports(8)}, changes{home, connected, at(0, 3*time.Minute), reports(3)}, []string{"old 0", "new 3"}, false, "RollingOut", 0},
		"successor was taken back":                 {changes{home, connected, at(0, 0), reports(0)}, changes{home, at(3, 0), connected, createdAgo(time.Hour)}, nil, false, "RollingOut", 15 * time.Minute},
		"successor was taken back before":          {changes{home, connected, at(0, 15*time.Minute), reports(0)}, changes{home, at(3, 0), connected, createdAgo(time.Hour)}, []string{"old 8"}, false, "RollingOut", 0},
		"successor reports the distance of before": {changes{home, connected}, changes{home, at(3, 0), connected, reports(0)}, []string{"new 3"}, false, "RollingOut", 0},
		"successor reports":                        {changes{home, connected, at(8, 0), reports(8)}, changes{home, connected, at(0, 0), reports(0)}, nil, true, "PhonedHome", 0},
		"successor reported before":                {changes{home, connected, at(8, 0), reports(8)}, changes{home, connected, at(0, time.Hour), reports(0), lastRun(time.Minute)}, nil, false, "RollingOut", 3 * time.Minute},
		"successor reported before, and since":     {changes{home, connected, at(8, time.Minute), reports(8)}, changes{home, connected, at(0, time.Hour), reports(0), lastRun(0)}, nil, true, "PhonedHome", 0},
		"successor knows of no distance":           {changes{home, connected, at(8, time.Minute), reports(8)}, changes{home, connected, withoutDistance, lastRun(0)}, nil, true, "PhonedHome", 0},
		"one of no distance does not report yet":   {changes{home, connected, at(8, time.Minute), reports(8)}, changes{home, connected, withoutDistance, lastRun(time.Hour)}, nil, false, "RollingOut", 2 * time.Minute},
		"one of no distance does not report":       {changes{home, connected, at(8, 3*time.Minute), reports(8)}, changes{home, connected, withoutDistance, lastRun(time.Hour)}, []string{"old 0", "new 3"}, false, "RollingOut", 0},
		"neither knows of distances":               {changes{home, connected, withoutDistance, bareDistance(8)}, changes{home, connected, withoutDistance, lastRun(time.Hour)}, nil, true, "PhonedHome", 0},
		"unreachable since the takeover has begun": {changes{home, connected, at(8, 0), reports(8)}, changes{home, at(3, time.Hour), unreachable}, nil, false, "RollingOut", 50 * time.Second},
		"unreachable for longer":                   {changes{home, connected, at(8, 0), reports(8)}, changes{home, at(3, time.Hour), unreachableForLong}, []string{"old 0"}, false, "RollingOut", 0},
		"unreachable for longer, nearly done":      {changes{home, connected, at(8, 0), reports(8)}, changes{home, at(0, time.Hour), unreachableForLong}, []string{"old 0", "new 3"}, false, "RollingOut", 0},
		"successor with the traffic is silent":     {changes{home, connected, at(8, 0), reports(8)}, changes{home, justNow, at(0, time.Hour), connection("False", "ControllerSilent", 0)}, []string{"old 0", "new 3"}, false, "RollingOut", time.Hour},
		"neither has a kubeconfig":                 {changes{home, noKubeconfig}, changes{home, at(0, time.Hour), noKubeconfig}, []string{"old 8"}, true, "PhonedHome", 0},
		"old one is perhaps connected":             {changes{home, unreachable}, changes{home, justNow, at(3, 0), noKubeconfig}, nil, false, "RollingOut", time.Hour},
		"only the successor has no kubeconfig":     {changes{home, connected}, changes{home, justNow, at(3, 0), noKubeconfig}, nil, false, "RollingOut", time.Hour},
		"old one is gone":                          {changes{gone}, changes{home, at(3, 0), never}, []string{"new 0"}, true, "PhonedHome", 0},
		"old one is unreachable":                   {changes{silent}, changes{home, justNow, at(3, 0), never}, nil, false, "RollingOut", 14 * time.Minute},
		"old one is unreachable for long":          {changes{longSilent}, changes{home, at(3, 0), never}, []string{"new 0"}, true, "PhonedHome", 0},
		"old one is unreachable, but reports":      {changes{longSilent, connected}, changes{home, justNow, at(3, 0), never}, nil, false, "RollingOut", time.Hour},
		"old one crashes, and reports":             {changes{home, crashing, connected}, changes{home, at(3, 0), never}, []string{"new 0"}, true, "PhonedHome", 0},
		"a user deletes the old one":               {changes{home, connected, going}, changes{home, at(3, 0), never}, []string{"new 0"}, false, "PhonedHome", 0},
		"a user deletes the old one before":        {changes{home, connected, going}, changes{installing, justNow, at(3, 0), never}, []string{"new 0"}, false, "RollingOut", time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := infraCluster(withFirewallSpec("firewall-2"), withFirewallController).(*v1alpha4.MetalStackCluster)
			owned := []*v1alpha4.MetalStackFirewall{
				firewallOf(cluster, "old", append(c.old, outdated)...), firewallOf(cluster, "new", append(changes{younger}, c.successor...)...),
			}
			plan := planRollout(cluster, owned, rollTime, NewOptions())
			require.Nil(t, plan.create)
			var distances []string
			for _, d := range plan.distances {
				distances = append(distances, fmt.Sprintf("%s %d", d.firewall.Name, d.distance))
			}
			if c.retire {
				require.Len(t, plan.deletions, 1)
				require.Equal(t, "old", plan.deletions[0].firewall.Name)
				c.distances = deleteOf(c.distances, "old 8")
			} else {
				require.Empty(t, plan.deletions)
			}
			require.ElementsMatch(t, c.distances, distances)
			require.Equal(t, c.reason, plan.status.Reason, plan.status.Message)
			require.Equal(t, c.requeue, plan.requeueAfter)
		})
	}
}

func deleteOf(all []string, one string) []string {
	var left []string
	for _, s := range all {
		if s != one {
			left = append(left, s)
		}
	}
	return left
}

func TestPlanRollout_SingleFirewallHasTheShortestDistance(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2"), withFirewallController).(*v1alpha4.MetalStackCluster)
	f := firewallOf(cluster, "f", home, connected, at(3, time.Hour))
	plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{f}, rollTime, NewOptions())
	require.Equal(t, []firewallDistance{{f, 0, metav1.ConditionTrue}}, plan.distances, "an exchange that ended was not finished")

	cluster.Spec.FirewallSpec.Controller = nil
	plan = planRollout(cluster, []*v1alpha4.MetalStackFirewall{f}, rollTime, NewOptions())
	require.Equal(t, []firewallDistance{{firewall: f}}, plan.distances, "it has no firewall-controller any more")
	setDistance(&f.Status, plan.distances[0], rollTime)
	require.Nil(t, distanceCondition(f))
	require.Zero(t, f.Status.Distance)
	require.Empty(t, planRollout(cluster, []*v1alpha4.MetalStackFirewall{f}, rollTime, NewOptions()).distances)
}

func TestPlanRollout_WithoutControllerHasNoDistances(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)
	owned := []*v1alpha4.MetalStackFirewall{firewallOf(cluster, "old", home, outdated), firewallOf(cluster, "new", installing)}
	require.Empty(t, planRollout(cluster, owned, rollTime, NewOptions()).distances)
}

// Of the firewalls that serve, the one goes that did not take over.
func TestPlanRollout_SpecChangesDuringATakeoverThatFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		successor []func(*v1alpha4.MetalStackFirewall)
		outdated  bool
	}{
		"it does not report":           {[]func(*v1alpha4.MetalStackFirewall){connected, at(0, time.Minute), reports(3)}, true},
		"the cluster is unreachable":   {[]func(*v1alpha4.MetalStackFirewall){at(0, time.Minute), connection("Unknown", "WorkloadClusterUnreachable", time.Second)}, true},
		"its controller never reports": {[]func(*v1alpha4.MetalStackFirewall){at(0, time.Minute), connection("False", infrastructure.ReasonControllerSilent, 2*time.Hour)}, false},
	} {
		cluster := infraCluster(withFirewallSpec("firewall-2"), withFirewallController).(*v1alpha4.MetalStackCluster)
		old := firewallOf(cluster, "old", home, older, connected, at(8, time.Minute), reports(8))
		successor := firewallOf(cluster, "new", append([]func(*v1alpha4.MetalStackFirewall){home, createdAgo(30 * time.Minute)}, c.successor...)...)
		if c.outdated {
			outdated(successor)
		}
		plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{old, successor}, rollTime, NewOptions())
		require.Len(t, plan.deletions, 1, name)
		require.Equal(t, successor, plan.deletions[0].firewall, name)
		require.Len(t, plan.distances, 1, name)
		require.Equal(t, old, plan.distances[0].firewall, name)
		require.EqualValues(t, shortestDistance, plan.distances[0].distance, name)
	}
}

func TestExchangeTimeout_FollowsFromTheInterval(t *testing.T) {
	t.Parallel()
	spec := &v1alpha4.MetalStackFirewallSpec{}
	require.Equal(t, 3*time.Minute, exchangeTimeout(spec))
	spec.Controller = &v1alpha4.FirewallController{Interval: &metav1.Duration{Duration: time.Hour}}
	require.Equal(t, 3*time.Hour, exchangeTimeout(spec))
}

// The firewall that has the traffic keeps it, while another one is made.
func TestPlanRollout_SpecChangesDuringAnExchange(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		oldest, old int32
		retire      string
		changed     int
	}{
		"before it began": {0, 3, "old", 0},
		"begun":           {8, 3, "old", 1},
		"nearly done":     {8, 0, "oldest", 0},
	} {
		cluster := infraCluster(withFirewallSpec("firewall-2"), withFirewallController).(*v1alpha4.MetalStackCluster)
		oldest, old := firewallOf(cluster, "oldest", home, older, at(c.oldest, 0), connected), firewallOf(cluster, "old", home, outdated, younger, at(c.old, 0), connected)
		plan := planRollout(cluster, []*v1alpha4.MetalStackFirewall{oldest, old}, rollTime, NewOptions())
		require.Nil(t, plan.create, name)
		require.Len(t, plan.deletions, 1, name)
		require.Equal(t, c.retire, plan.deletions[0].firewall.Name, name)
		require.Len(t, plan.distances, c.changed, name)
		for _, d := range plan.distances {
			require.NotEqual(t, c.retire, d.firewall.Name, name)
			require.Zero(t, d.distance, name)
		}
	}
}

func TestRollout_RecordsSinceWhenADistanceIsSet(t *testing.T) {
	t.Parallel()
	cluster := infraCluster(withFirewallSpec("firewall-2"), withFirewallController).(*v1alpha4.MetalStackCluster)
	h := newHarness(t, clusters, false, cluster, capiCluster(),
		firewallOf(cluster, "old", home, connected, outdated), firewallOf(cluster, "new", home, connected, at(3, time.Hour), reports(3), younger))
	firewall := func(name string) *v1alpha4.MetalStackFirewall {
		return h.get(firewalls, name).(*v1alpha4.MetalStackFirewall)
	}
	report := func(name string, distance int32) {
		f := firewall(name)
		f.Status.Controller = &v1alpha4.FirewallControllerStatus{Distance: ptr.To(distance)}
		h.update(f)
	}
	h.clock.SetTime(rollTime)
	h.reconcile("c-infra")
	require.EqualValues(t, 8, firewall("old").Status.Distance)
	require.Equal(t, infrastructure.ReasonDistancePending, distanceCondition(firewall("old")).Reason)
	require.Equal(t, rollTime, distanceCondition(firewall("old")).LastTransitionTime.UTC())
	require.True(t, firewall("old").Status.Ready, "the rest of the status stays")

	h.clock.Step(20 * time.Second)
	require.Equal(t, 160*time.Second, h.reconcile("c-infra").RequeueAfter, "a restart changes nothing in when it was set")
	report("old", 8)
	h.clock.Step(10 * time.Second)
	h.reconcile("c-infra")
	require.Equal(t, metav1.ConditionTrue, distanceCondition(firewall("old")).Status)
	require.EqualValues(t, 0, firewall("new").Status.Distance)
	require.Equal(t, rollTime.Add(30*time.Second), distanceCondition(firewall("new")).LastTransitionTime.UTC())

	report("new", 0)
	h.reconcile("c-infra")
	require.NotNil(t, firewall("old").GetDeletionTimestamp())
	require.NoError(t, client.IgnoreNotFound(h.drop(firewalls, "old")))
	h.reconcile("c-infra")
	require.Equal(t, metav1.ConditionTrue, distanceCondition(firewall("new")).Status)
	require.Equal(t, infrastructure.ReasonPhonedHome, condition(h.get(clusters, "c-infra"), infrastructure.ConditionFirewallReady).Reason)
}
