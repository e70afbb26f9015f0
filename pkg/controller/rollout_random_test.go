// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure"
	"metal-stack.io/infrastructure-apiserver/pkg/apis/infrastructure/v1alpha4"
)

// fleet is the firewalls of a cluster in a simulated history. A controller knows nothing but
// the objects, so that each plan is as good as one after a restart.
type fleet struct {
	t         *testing.T
	rand      *rand.Rand
	now       time.Time
	cluster   *v1alpha4.MetalStackCluster
	firewalls []*v1alpha4.MetalStackFirewall
	made      int
	log       []string
	// dead are the firewalls whose firewall-controller never connects, and holes those that
	// forward nothing, so that the workload cluster is unreachable when they have the traffic.
	dead, holes map[*v1alpha4.MetalStackFirewall]bool
	// losing is when firewalls got the longest distance, and reported when they reported last.
	losing, reported map[*v1alpha4.MetalStackFirewall]time.Time
}

func (f *fleet) note(format string, args ...any) { f.log = append(f.log, fmt.Sprintf(format, args...)) }

func (f *fleet) any() *v1alpha4.MetalStackFirewall {
	if len(f.firewalls) == 0 {
		return nil
	}
	return f.firewalls[f.rand.IntN(len(f.firewalls))]
}

func (f *fleet) ready(fw *v1alpha4.MetalStackFirewall, status metav1.ConditionStatus, reason string) {
	was := *fw.Status.DeepCopy()
	readyCondition(fw, status, reason, f.now)
	for _, c := range was.Conditions {
		switch {
		case c.Type != infrastructure.ConditionReady:
			fw.Status.Conditions = append(fw.Status.Conditions, c)
		case c.Status == status:
			fw.Status.Conditions[0].LastTransitionTime = c.LastTransitionTime
		}
	}
	f.note("%s is %s %s", fw.Name, status, reason)
}

// proceed does the next step of a firewall's metal: allocation, installation, release.
func (f *fleet) proceed(fw *v1alpha4.MetalStackFirewall) {
	a := fw.Status.Allocation
	switch {
	case fw.DeletionTimestamp != nil && (a == nil || a.Phase == v1alpha4.AllocationReleased):
		f.firewalls = slices.DeleteFunc(f.firewalls, func(g *v1alpha4.MetalStackFirewall) bool { return g == fw })
		f.note("%s does not exist any more", fw.Name)
	case fw.DeletionTimestamp != nil:
		a.Phase = v1alpha4.AllocationReleased
		f.ready(fw, metav1.ConditionFalse, infrastructure.ReasonReleased)
	case a == nil:
		fw.Status.Allocation = &v1alpha4.MachineAllocation{AllocationState: v1alpha4.AllocationState{
			Phase: v1alpha4.AllocationAllocating, StartTime: &metav1.Time{Time: f.now},
		}}
	case a.Phase == v1alpha4.AllocationAllocating && f.rand.IntN(2) == 0:
	case a.Phase == v1alpha4.AllocationAllocating:
		a.Phase, a.StartTime = v1alpha4.AllocationAllocated, &metav1.Time{Time: f.now}
		fw.Spec.ProviderID = "metal://fra-01/" + string(fw.UID)
		f.ready(fw, metav1.ConditionFalse, infrastructure.ReasonProvisioning)
	case isGone(fw) || a.Phase == v1alpha4.AllocationReleased:
	case !fw.Status.Ready:
		fw.Status.Initialization.Provisioned = ptr.To(true)
		f.ready(fw, metav1.ConditionTrue, infrastructure.ReasonPhonedHome)
	}
}

// report does what a firewall-controller does that runs: it connects, and reports its
// distance.
func (f *fleet) report(fw *v1alpha4.MetalStackFirewall) {
	if fw.Spec.Controller == nil || !fw.Status.Ready {
		return
	}
	if f.cutOff() {
		for _, fw := range f.firewalls {
			if connectedCondition(fw).Status != metav1.ConditionUnknown {
				f.connected(fw, metav1.ConditionUnknown, "WorkloadClusterUnreachable")
			}
		}
		return
	}
	if f.dead[fw] {
		if connectedCondition(fw).Status != metav1.ConditionFalse {
			f.connected(fw, metav1.ConditionFalse, infrastructure.ReasonControllerNeverReported)
		}
		return
	}
	f.reported[fw] = f.now
	if !isConnected(fw) {
		f.connected(fw, metav1.ConditionTrue, "Connected")
	}
	fw.Status.Controller = &v1alpha4.FirewallControllerStatus{Distance: ptr.To(fw.Status.Distance), LastRun: &metav1.Time{Time: f.now}}
}

// cutOff returns whether a firewall that forwards nothing has the traffic.
func (f *fleet) cutOff() bool {
	runs := slices.DeleteFunc(slices.Clone(f.firewalls), func(fw *v1alpha4.MetalStackFirewall) bool { return !fw.Status.Ready })
	return len(runs) > 0 && f.holes[slices.MinFunc(runs, func(a, b *v1alpha4.MetalStackFirewall) int { return int(a.Status.Distance - b.Status.Distance) })]
}

func (f *fleet) connected(fw *v1alpha4.MetalStackFirewall, status metav1.ConditionStatus, reason string) {
	if fw.Spec.Controller == nil || !hasPhonedHome(fw) {
		return
	}
	meta.SetStatusCondition(&fw.Status.Conditions, metav1.Condition{
		Type: infrastructure.ConditionControllerConnected, Status: status, Reason: reason, LastTransitionTime: metav1.NewTime(f.now),
	})
	f.note("the firewall-controller of %s is connected: %s (%s)", fw.Name, status, reason)
}

// newImage has a firewall have an old image, if it is an alias that has had one.
func (f *fleet) newImage(fw *v1alpha4.MetalStackFirewall) {
	if fw.Status.Ready {
		meta.SetStatusCondition(&fw.Status.Conditions, metav1.Condition{
			Type: infrastructure.ConditionImageUpToDate, Status: metav1.ConditionFalse, Reason: infrastructure.ReasonNewerImageAvailable, Message: infrastructure.NewerImageMessage(fw.Spec.Image, fw.Spec.Image+".2", "m", fw.Spec.Image+".1"),
		})
	}
}

// disturb does what happens to a firewall that runs.
func (f *fleet) disturb(fw *v1alpha4.MetalStackFirewall) {
	if allocationOf(fw).Phase != v1alpha4.AllocationAllocated || isGone(fw) {
		return
	}
	switch f.rand.IntN(9) {
	case 4:
		f.connected(fw, metav1.ConditionUnknown, "WorkloadClusterUnreachable")
	case 5:
		f.connected(fw, metav1.ConditionFalse, infrastructure.ReasonControllerSilent)
	case 6:
		f.connected(fw, metav1.ConditionFalse, infrastructure.ReasonNoKubeconfig)
	case 7:
		f.newImage(fw)
	case 8:
		fw.Annotations = map[string]string{infrastructure.ReplaceAnnotation: ""}
		f.note("%s is to be replaced", fw.Name)
	case 0:
		f.ready(fw, metav1.ConditionFalse, infrastructure.ReasonCrashLoop)
	case 1:
		f.ready(fw, metav1.ConditionUnknown, infrastructure.ReasonUnreachable)
	case 2:
		f.ready(fw, metav1.ConditionFalse, infrastructure.ReasonAllocationGone)
	case 3:
		if fw.DeletionTimestamp == nil {
			fw.DeletionTimestamp = &metav1.Time{Time: f.now}
			f.note("a user deletes %s", fw.Name)
		}
	}
}

func (f *fleet) changeSpec() {
	spec := f.cluster.Spec.FirewallSpec
	switch f.rand.IntN(6) {
	case 0, 1:
		spec.Controller = &v1alpha4.FirewallController{SilenceTimeout: &metav1.Duration{Duration: 10 * time.Minute}}
		return
	case 2:
		spec.Controller, spec.AutoUpdate = nil, &v1alpha4.FirewallAutoUpdate{}
		return
	case 3:
		spec.ProvisioningTimeout = &metav1.Duration{Duration: time.Duration(1+f.rand.IntN(2)) * time.Hour}
		return
	}
	spec.Image = fmt.Sprintf("firewall-%d", f.rand.IntN(4))
	f.note("firewallSpec.image is %s", spec.Image)
}

// reconcile does a plan, or as much of it as is done before the controller stops.
func (f *fleet) reconcile(whole bool) (changed bool) {
	plan := planRollout(f.cluster, f.firewalls, f.now, NewOptions())
	f.checkDeletions(plan)
	stop := func() bool { return !whole && f.rand.IntN(4) == 0 }
	for _, fw := range plan.updates {
		if stop() {
			return true
		}
		setMutableFields(&fw.Spec, f.cluster.Spec.FirewallSpec)
	}
	for _, d := range plan.distances {
		if stop() {
			return true
		}
		if d.distance == longestDistance && d.firewall.Status.Distance != longestDistance {
			f.losing[d.firewall] = f.now
		}
		setDistance(&d.firewall.Status, d, f.now)
		f.note("%s gets distance %d", d.firewall.Name, d.distance)
	}
	for _, d := range plan.deletions {
		if stop() {
			return true
		}
		d.firewall.DeletionTimestamp = &metav1.Time{Time: f.now}
		f.note("the controller deletes %s: %s", d.firewall.Name, d.reason)
	}
	if plan.create == nil || stop() {
		return len(plan.updates)+len(plan.distances)+len(plan.deletions) > 0 || plan.create != nil
	}
	require.False(f.t, slices.ContainsFunc(f.firewalls, func(fw *v1alpha4.MetalStackFirewall) bool { return fw.Name == plan.create.Name }), f.history())
	f.made++
	plan.create.UID = types.UID(fmt.Sprintf("00000000-0000-0000-0000-%012d", f.made))
	plan.create.CreationTimestamp = metav1.NewTime(f.now)
	f.firewalls = append(f.firewalls, plan.create)
	f.dead[plan.create], f.holes[plan.create] = !whole && f.rand.IntN(4) == 0, !whole && f.rand.IntN(4) == 0
	f.note("the controller creates %s: %s", plan.create.Name, plan.createReason)
	require.LessOrEqual(f.t, len(metalHolders(f.firewalls)), maxFirewalls, f.history())
	return true
}

// checkDeletions requires that of the firewalls that have served one is left, unless another
// one is ready.
func (f *fleet) checkDeletions(plan rollout) {
	served, left, ready := 0, 0, 0
	for _, fw := range f.firewalls {
		deleted := plan.deletes(fw)
		if fw.DeletionTimestamp != nil || !hasPhonedHome(fw) || isGone(fw) {
			continue
		}
		served++
		if !deleted {
			left++
		}
		if !deleted && fw.Status.Ready {
			ready++
		}
		if deleted && fw.Status.Ready {
			require.True(f.t, slices.ContainsFunc(f.firewalls, func(g *v1alpha4.MetalStackFirewall) bool {
				return g != fw && g.DeletionTimestamp == nil && !plan.deletes(g) && g.Status.Ready && f.mayReplace(g, fw)
			}), "%v\n%s", plan.deletions, f.history())
		}
	}
	require.False(f.t, served > 0 && left == 0 && ready == 0, "%v\n%s", plan.deletions, f.history())
}

// mayReplace returns whether a firewall that runs may stay in place of another one that does:
// if that one has lost the traffic, after a report since then only.
func (f *fleet) mayReplace(fw, deleted *v1alpha4.MetalStackFirewall) bool {
	switch {
	case f.cluster.Spec.FirewallSpec.Controller == nil, !mayBeConnected(deleted):
		return true
	case deleted.Status.Distance == longestDistance && !hasLongestDistance(fw):
		return isConnected(fw) && f.reported[fw].After(f.losing[deleted])
	}
	return isConnected(fw) || hasLongestDistance(fw) || fw.Status.Distance <= deleted.Status.Distance
}

func (f *fleet) history() string { return strings.Join(f.log, "\n") }

// settle lets everything that is in flight end.
func (f *fleet) settle() {
	clear(f.holes)
	for range 2000 {
		f.now = f.now.Add(10 * time.Second)
		for _, fw := range slices.Clone(f.firewalls) {
			f.proceed(fw)
			f.report(fw)
		}
		if !f.reconcile(true) && len(f.firewalls) == 1 && f.firewalls[0].Status.Ready {
			require.True(f.t, matchesSpec(f.firewalls[0], f.cluster.Spec.FirewallSpec), f.history())
			require.Empty(f.t, differingMutableFields(&f.firewalls[0].Spec, f.cluster.Spec.FirewallSpec), f.history())
			require.Zero(f.t, f.firewalls[0].Status.Distance, f.history())
			return
		}
	}
	require.Fail(f.t, "it does not settle", f.history())
}

func TestPlanRollout_RandomHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		f := &fleet{t: t, rand: rand.New(rand.NewPCG(seed, 1)), now: rollTime, cluster: infraCluster(withFirewallSpec("firewall-2")).(*v1alpha4.MetalStackCluster)}
		f.dead, f.holes = map[*v1alpha4.MetalStackFirewall]bool{}, map[*v1alpha4.MetalStackFirewall]bool{}
		f.losing, f.reported = map[*v1alpha4.MetalStackFirewall]time.Time{}, map[*v1alpha4.MetalStackFirewall]time.Time{}
		f.note("seed %d", seed)
		for range 200 {
			f.now = f.now.Add(time.Duration(f.rand.IntN(60)) * time.Second)
			fw := f.any()
			switch n := f.rand.IntN(20); {
			case n < 8 || fw == nil:
				f.reconcile(false)
			case n < 10:
				f.changeSpec()
			case n < 12:
				f.disturb(fw)
			case n < 15:
				f.report(fw)
			case n == 15:
				f.now = f.now.Add(20 * time.Minute)
			default:
				f.proceed(fw)
			}
		}
		f.settle()
	}
}
